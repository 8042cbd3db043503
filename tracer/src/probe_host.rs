//! Asks this host what it allows: the only place that does. What it says becomes data, [`HostFacts`], from which
//! [`crate::plan::plan`] decides.
//!
//! Changes one thing: mounts tracefs where the kernel has it and nobody mounted it.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use procfs::process::Process;
use rustix::mount::{MountFlags, mount};

use crate::{
    model::HostFacts,
    plan::{Attach, PROBES},
    source::ebpf::btf::{KernelBtf, VMLINUX},
};

/// Where tracefs belongs.
const TRACEFS: &str = "/sys/kernel/tracing";
/// What is read here has a line.
const MAX_BYTES: u64 = 4 << 10;

/// Names of this host and of its boot, and what this process may do: all that a look without probes needs.
#[must_use]
pub fn names() -> HostFacts {
    let names = rustix::system::uname();
    HostFacts {
        hostname: names.nodename().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        arch: names.machine().to_string_lossy().into_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        capabilities: effective(),
        ..HostFacts::default()
    }
}

/// Asks. `btf` is the kernel's types where they could be read; loading takes a tenth of a second, so the caller shares it
/// with the loader.
#[must_use]
pub fn probe(btf: Option<&KernelBtf>) -> HostFacts {
    let tracefs = tracefs();
    let mut facts = HostFacts {
        btf: Path::new(VMLINUX).exists(),
        btf_tracepoints: Vec::new(),
        syscall_tracepoints: Vec::new(),
        lockdown: bracketed(&read("/sys/kernel/security/lockdown")),
        missing_fields: btf.map(KernelBtf::missing_fields).unwrap_or_default(),
        tracefs: tracefs.as_ref().map(|path| path.to_string_lossy().into_owned()),
        ..names()
    };
    let tracepoints = btf.map(KernelBtf::tracepoints).unwrap_or_default();
    for spec in PROBES {
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
        }
    }
    facts
}

/// Text of a small file; empty where it cannot be read.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let _partial = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where tracefs is mounted; mounted now, if need be and if we may.
fn tracefs() -> Option<PathBuf> {
    if let Some(path) = tracefs_mount() {
        return Some(path);
    }
    // Not there in a kernel without tracing: then there is nothing to mount.
    fs::metadata(TRACEFS).ok()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tracefs", TRACEFS, "tracefs", flags, None).ok()?;
    tracefs_mount()
}

/// A mount of that type; the usual place is taken before others.
fn tracefs_mount() -> Option<PathBuf> {
    let mounts = Process::myself().and_then(|own| own.mountinfo()).ok()?;
    let mut paths: Vec<PathBuf> =
        mounts.into_iter().filter(|mount| mount.fs_type == "tracefs").map(|mount| mount.mount_point).collect();
    paths.sort_by_key(|path| path != Path::new(TRACEFS));
    paths.into_iter().next()
}

/// Effective capabilities; none where they cannot be read, and none in a user namespace of one's own: there they hold for no
/// process of the host (user_namespaces(7)).
fn effective() -> u64 {
    if !is_of_all_users(&read("/proc/self/uid_map")) {
        return 0;
    }
    Process::myself().and_then(|own| own.status()).map_or(0, |status| status.capeff)
}

/// Whether a `uid_map` is that of the initial user namespace: each of the 2^32 − 1 user ids stands for itself.
fn is_of_all_users(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The chosen word of `none [integrity] confidentiality`.
fn bracketed(words: &str) -> Option<String> {
    words.split_whitespace().find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_name_a_kernel_and_a_boot() {
        let facts = probe(None);
        assert!(!facts.hostname.is_empty() && !facts.kernel.is_empty() && !facts.arch.is_empty());
        assert_eq!(facts.boot_id.len(), 36);
        assert!(facts.btf_tracepoints.is_empty());
    }

    #[test]
    fn user_namespaces_of_ones_own_are_told_apart() {
        assert!(is_of_all_users("         0          0 4294967295\n"));
        assert!(!is_of_all_users("         0       1000          1\n") && !is_of_all_users(""));
    }

    #[test]
    fn words_of_the_kernel_are_read_and_others_are_none() {
        assert_eq!(bracketed("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(bracketed(""), None);
    }
}
