//! Collects facts about this host as data, [`HostFacts`]; [`crate::plan::plan`] decides from them. No other module asks.
//!
//! Changes one thing: it mounts tracefs if the kernel has it and it is not mounted.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use procfs::process::Process;
use rustix::mount::{MountFlags, mount};

use crate::{
    host_paths,
    model::HostFacts,
    plan::{Attach, all_probes},
    source::ebpf::btf::KernelBtf,
};

/// Usual mount point of tracefs, below `/sys`.
const TRACEFS: &str = "kernel/tracing";
/// Largest file that is read. These files have one line.
const MAX_BYTES: u64 = 4 << 10;

/// Names of the host, the kernel and this boot, and the capabilities of this process: everything that an inspection needs.
#[must_use]
pub fn names() -> HostFacts {
    let names = rustix::system::uname();
    HostFacts {
        hostname: names.nodename().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        arch: names.machine().to_string_lossy().into_owned(),
        boot_id: read(&host_paths::get().proc.join("sys/kernel/random/boot_id")).trim().to_owned(),
        capabilities: effective(),
        ..HostFacts::default()
    }
}

/// Collects all facts. `btf` holds the kernel's types, if they could be read. Loading them takes time, so the caller shares them with
/// the loader.
#[must_use]
pub fn probe(btf: Option<&KernelBtf>) -> HostFacts {
    let tracefs = tracefs();
    let mut facts = HostFacts {
        btf: btf.is_some(),
        btf_tracepoints: Vec::new(),
        syscall_tracepoints: Vec::new(),
        lockdown: bracketed(&read(&host_paths::get().sys.join("kernel/security/lockdown"))),
        missing_fields: btf.map(KernelBtf::missing_fields).unwrap_or_default(),
        missing_helpers: btf.map(KernelBtf::missing_helpers).unwrap_or_default(),
        tracefs: tracefs.as_ref().map(|path| path.to_string_lossy().into_owned()),
        ..names()
    };
    let tracepoints = btf.map(KernelBtf::tracepoints).unwrap_or_default();
    for spec in all_probes() {
        match spec.attach {
            Attach::BtfTracepoint(name) => {
                if tracepoints.contains(name) {
                    facts.btf_tracepoints.push(name.to_owned());
                }
            }
            Attach::Syscall(name) => {
                if tracefs.as_ref().is_some_and(|path| path.join("events/syscalls").join(name).join("id").exists()) {
                    facts.syscall_tracepoints.push(name.to_owned());
                }
            }
            Attach::Return(_) => {}
        }
    }
    facts
}

/// Text of a small file; empty if it cannot be read.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let _partial = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Mount point of tracefs. Mounts it if needed and permitted.
fn tracefs() -> Option<PathBuf> {
    let usual = host_paths::get().sys.join(TRACEFS);
    if let Some(path) = tracefs_mount(&usual) {
        return Some(path);
    }
    // A kernel without tracing lacks the folder, and has nothing to mount.
    fs::metadata(&usual).ok()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tracefs", &usual, "tracefs", flags, None).ok()?;
    tracefs_mount(&usual)
}

/// A mount point of tracefs. The usual one goes before others.
fn tracefs_mount(usual: &Path) -> Option<PathBuf> {
    let mounts = Process::myself().and_then(|own| own.mountinfo()).ok()?;
    let mut paths: Vec<PathBuf> =
        mounts.into_iter().filter(|mount| mount.fs_type == "tracefs").map(|mount| mount.mount_point).collect();
    paths.sort_by_key(|path| path != usual);
    paths.into_iter().next()
}

/// Effective capabilities. None if they cannot be read, and none in a user namespace of its own, where capabilities hold for no process
/// of the host (user_namespaces(7)).
fn effective() -> u64 {
    if !is_of_all_users(&read(Path::new("/proc/self/uid_map"))) {
        return 0;
    }
    // Of this thread: /proc/self is the first thread, which may have dropped its capabilities by now.
    rustix::thread::capabilities(None).map_or(0, |sets| sets.effective.bits())
}

/// True for the `uid_map` of the initial user namespace: it maps each of the 2^32 − 1 user ids to itself.
fn is_of_all_users(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The word in brackets, as in `none [integrity] confidentiality`.
fn bracketed(words: &str) -> Option<String> {
    words.split_whitespace().find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_host_has_name_kernel_and_boot() {
        let facts = probe(None);
        assert!(!facts.hostname.is_empty() && !facts.kernel.is_empty() && !facts.arch.is_empty());
        assert_eq!(facts.boot_id.len(), 36);
        assert!(facts.btf_tracepoints.is_empty());
    }

    #[test]
    fn own_user_namespace_is_recognized() {
        assert!(is_of_all_users("         0          0 4294967295\n"));
        assert!(!is_of_all_users("         0       1000          1\n") && !is_of_all_users(""));
    }

    #[test]
    fn bracketed_word_is_read() {
        assert_eq!(bracketed("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(bracketed(""), None);
    }
}
