//! Asks this host what it allows: the only place that does. What it says becomes data, [`HostFacts`], from which
//! [`crate::plan::plan`] decides.
//!
//! Changes one thing: mounts tracefs where the kernel has it and nobody mounted it.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount};

use crate::{
    model::HostFacts,
    plan::{Attach, PROBES},
    source::ebpf::btf::{KernelBtf, VMLINUX},
};

/// Where tracefs belongs.
const TRACEFS: &str = "/sys/kernel/tracing";
/// What is read here has a few lines; mounts of a node with many pods take some hundred KB.
const MAX_BYTES: u64 = 4 << 20;

/// Asks. `btf` is the kernel's types where they could be read; loading takes a tenth of a second, so the caller shares it
/// with the loader.
#[must_use]
pub fn probe(btf: Option<&KernelBtf>) -> HostFacts {
    let names = rustix::system::uname();
    let tracefs = tracefs();
    let mut facts = HostFacts {
        hostname: names.nodename().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        arch: names.machine().to_string_lossy().into_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        btf: Path::new(VMLINUX).exists(),
        capabilities: effective(&read("/proc/self/status")),
        btf_tracepoints: Vec::new(),
        syscall_tracepoints: Vec::new(),
        lockdown: bracketed(&read("/sys/kernel/security/lockdown")),
        missing_fields: btf.map(KernelBtf::missing_fields).unwrap_or_default(),
        tracefs: tracefs.as_ref().map(|path| path.to_string_lossy().into_owned()),
    };
    for spec in PROBES {
        match spec.attach {
            Attach::BtfTracepoint(name) => {
                if btf.is_some_and(|btf| btf.tracepoints().contains(name)) {
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
    let mounted = || tracefs_mount(&read("/proc/self/mounts"));
    if let Some(path) = mounted() {
        return Some(path);
    }
    // Not there in a kernel without tracing: then there is nothing to mount.
    fs::metadata(TRACEFS).ok()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tracefs", TRACEFS, "tracefs", flags, None).ok()?;
    mounted()
}

/// The first mount of that type whose path needs no unescaping. The usual place is taken before others.
fn tracefs_mount(mounts: &str) -> Option<PathBuf> {
    let mut paths: Vec<&str> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_device, path, kind) = (words.next()?, words.next()?, words.next()?);
            (kind == "tracefs" && !path.contains('\\')).then_some(path)
        })
        .collect();
    paths.sort_by_key(|path| *path != TRACEFS);
    paths.first().map(PathBuf::from)
}

/// `CapEff:` of `/proc/self/status`.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or_default()
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
    fn words_of_the_kernel_are_read_and_others_are_none() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert_eq!(effective("CapEff:\tnonsense\n"), 0);
        assert_eq!(bracketed("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(bracketed(""), None);
    }

    #[test]
    fn the_usual_place_of_tracefs_comes_first() {
        let mounts = "a /x tmpfs rw 0 0\nnone /sys/kernel/debug/tracing tracefs rw 0 0\nb /sys/kernel/tracing tracefs rw 0 0\nodd\n";
        assert_eq!(tracefs_mount(mounts), Some(PathBuf::from(TRACEFS)));
        assert_eq!(tracefs_mount("a /with\\040space tracefs rw 0 0\n"), None);
    }
}
