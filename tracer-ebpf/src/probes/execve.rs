//! Programs that could not be executed.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use tracer_common::{ExecFailed, Kind, WatchClass};

use super::{SYSCALL_FIRST, word};
use crate::{
    emit::send,
    kernel::task::{Task, about_current, current_tgid},
    watch::watched,
};

/// kernel: fs/exec.c:execve(2)
#[tracepoint(category = "syscalls", name = "sys_exit_execve")]
pub fn sys_exit_execve(ctx: TracePointContext) -> u32 {
    let _none = try_exec_failed(&ctx);
    0
}

#[inline(always)]
fn try_exec_failed(ctx: &TracePointContext) -> Option<()> {
    let result = word!(ctx, SYSCALL_FIRST)? as i64;
    // Most calls succeed, or fail outside of the path.
    if result >= 0 {
        return None;
    }
    let watch = watched(current_tgid())?;
    if watch.class != WatchClass::RuntimeChild as u8 {
        return None;
    }
    send!(Kind::ExecFailed, about_current(), |record: &mut ExecFailed| {
        record.errno = result.wrapping_neg() as u32;
        record.mntns = Task::current().mntns();
    })
}
