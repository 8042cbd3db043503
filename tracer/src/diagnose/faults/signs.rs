//! Signs of a shim that does nothing, shared by the faults of a shim (F09) and of its guest (F24).

use super::prelude::*;

/// Starting runc takes milliseconds.
const LONG: Span = Span::from_secs(10);

/// The longest time a shim itself waits for a console (containerd-shim-runc-v2, process/exec.go). A longer wait is no
/// slow start.
const VERY_LONG: Span = Span::from_secs(35);

/// The shim of an exec, if the runtime has made the FIFOs and nothing was started.
pub(super) fn idle_shim(ctx: &SessionCtx<'_>) -> Option<TaskKey> {
    let asked = ctx.is_open() && ctx.is_seen_whole() && ctx.session.exec_id.is_some() && ctx.age() >= LONG;
    let nothing_ran = ctx.last_role() == Some(Role::Runtime) && ctx.has_gap(&[GapCode::RuncUnknown]);
    ctx.shim().filter(|_| asked && nothing_ran)
}

/// True if the runtime has the exec's FIFOs open and the shim has not. The shim's descriptors must have been measured.
pub(super) fn has_not_opened(ctx: &SessionCtx<'_>, shim: TaskKey) -> bool {
    let holds = |task: TaskKey| ctx.fifos().iter().any(|held| held.task == task);
    let runtime = ctx.hop(Role::Runtime).is_some_and(|(_, hop)| holds(hop.task));
    runtime && ctx.host.was_looked_at(shim) && !holds(shim) && ctx.age() >= VERY_LONG
}

/// True if that shim isolates its containers from this kernel; `None` if the shim's program is not known.
pub(super) fn is_sandboxed(ctx: &SessionCtx<'_>, shim: TaskKey) -> Option<bool> {
    let exe = ctx.process(shim)?.last.exe.as_ref()?;
    let name = String::from_utf8_lossy(exe.basename()).into_owned();
    Some(["-kata-", "-runsc-"].iter().any(|word| name.contains(word)))
}
