//! Signs of a shim that does nothing, shared by the faults of a shim (F09) and of its guest (F24).

use super::prelude::*;

/// Starting runc takes milliseconds.
const LONG: Span = Span::from_secs(10);

/// The longest time a shim itself waits for a console (containerd-shim-runc-v2, process/exec.go). A longer wait is no
/// slow start.
const VERY_LONG: Span = Span::from_secs(35);

/// The shim of an exec, if the runtime has made the FIFOs and nothing was started.
pub(super) fn idle_shim(case: &Case<'_>) -> Option<TaskKey> {
    let asked = case.is_open() && case.is_seen_whole() && case.session.exec_id.is_some() && case.age() >= LONG;
    let nothing_ran = case.last_role() == Some(Role::Runtime) && case.has_gap(&[GapCode::RuncUnknown]);
    case.shim().filter(|_| asked && nothing_ran)
}

/// True if the runtime has the exec's FIFOs open and the shim has not. The shim's descriptors must have been measured.
pub(super) fn has_not_opened(case: &Case<'_>, shim: TaskKey) -> bool {
    let holds = |task: TaskKey| case.fifos().iter().any(|held| held.task == task);
    let runtime = case.hop(Role::Runtime).is_some_and(|(_, hop)| holds(hop.task));
    runtime && case.host.was_looked_at(shim) && !holds(shim) && case.age() >= VERY_LONG
}

/// True if that shim isolates its containers from this kernel; `None` if the shim's program is not known.
pub(super) fn is_sandboxed(case: &Case<'_>, shim: TaskKey) -> Option<bool> {
    let exe = case.process(shim)?.last.exe.as_ref()?;
    let name = String::from_utf8_lossy(exe.basename()).into_owned();
    Some(["-kata-", "-runsc-"].iter().any(|word| name.contains(word)))
}
