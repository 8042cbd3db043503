//! Capabilities of the calling thread.

use std::path::Path;

use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
    },
};

/// Needed while looking: maps and iterators (BPF, PERFMON), descriptors and memory of other users' processes (SYS_PTRACE, and
/// DAC_READ_SEARCH for the folders that hold them), files of a runtime (DAC_READ_SEARCH).
pub(super) const LOOKING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);
/// As [`LOOKING`], if this process itself has to enter network namespaces.
pub(super) const LOOKING_EVERYWHERE: CapabilitySet = LOOKING.union(CapabilitySet::SYS_ADMIN);

/// Keeps these capabilities, as far as the thread has them, for itself and the threads that it starts. Programs that it would execute
/// get none back. Keeps CAP_DAC_OVERRIDE too if new files in `folder` need it.
pub(super) fn keep(wanted: CapabilitySet, folder: Option<&Path>) -> Result<(), Errno> {
    set_no_new_privs(true)?;
    // Unknown to kernels before 4.3, which have no ambient capabilities to clear.
    let _unknown = clear_ambient_capability_set();
    let had = capabilities(None)?;
    let kept = wanted.intersection(had.permitted);
    set(kept, kept.union(had.permitted.intersection(CapabilitySet::DAC_OVERRIDE)))?;
    let needs_override = folder.is_some_and(|folder| !may_create(folder));
    let kept = if needs_override { kept.union(CapabilitySet::DAC_OVERRIDE) } else { kept };
    let kept = kept.intersection(had.permitted);
    set(kept, kept)
}

/// Drops all capabilities of a thread that inherited no_new_privs and has no ambient ones: prctl(2) is no longer permitted.
pub(super) fn drop_all() -> Result<(), Errno> {
    set(CapabilitySet::empty(), CapabilitySet::empty())
}

fn set(effective: CapabilitySet, permitted: CapabilitySet) -> Result<(), Errno> {
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
}

fn may_create(folder: &Path) -> bool {
    accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// True if this thread may enter other network namespaces (setns(2)).
pub(super) fn may_enter_namespaces() -> bool {
    capabilities(None).is_ok_and(|has| has.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Keeps what the helper needs: namespaces and stacks (SYS_ADMIN), stacks of other users' processes (DAC_READ_SEARCH).
pub(super) fn keep_of_helper() -> Result<(), Errno> {
    keep(CapabilitySet::SYS_ADMIN.union(CapabilitySet::DAC_READ_SEARCH), None)
}
