//! Fork, exec and exit of processes on the path.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{Actor, Counter, Exit, Fork, Kind, Watch, WatchClass};

use super::{client, tcp::inbound};
use crate::{
    emit::send,
    kernel::{
        go,
        task::{Task, about_current, current_pid_tgid, current_tgid},
    },
    maps::{CONNECTING, SPLICING, WATCHED, count},
    watch::{describe, give_back, watched},
};

/// kernel: include/trace/events/sched.h:sched_process_fork(struct task_struct *parent, struct task_struct *child)
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let _none = try_fork(Task(ctx.arg::<u64>(1)));
    0
}

#[inline(always)]
fn try_fork(child: Task) -> Option<()> {
    let tgid = current_tgid();
    let watch = watched(tgid)?;
    let inherits = watch.class == WatchClass::Daemon as u8 || watch.class == WatchClass::RuntimeChild as u8;
    let child_tgid = child.tgid()?;
    // A thread has its creator's tgid.
    if !inherits || child_tgid == tgid || watch.depth >= Watch::MAX_DEPTH {
        return None;
    }
    let child_watch = Watch {
        start_ns: child.start_ns(),
        mntns: watch.mntns,
        class: WatchClass::RuntimeChild as u8,
        depth: watch.depth + 1,
        ..Watch::NONE
    };
    if WATCHED.insert(child_tgid, child_watch, 0).is_err() {
        count(Counter::WatchFull);
    }
    send!(Kind::Fork, about_current(), |record: &mut Fork| {
        record.child_tgid = child_tgid;
        record.reserved = 0;
        record.child_start_ns = child_watch.start_ns;
        record.actor = Actor::NONE;
        record.inbound_cookie = 0;
        record.inbound_inode = 0;
        // Only a daemon serves streams; a process below it works for one of them.
        if watch.class == WatchClass::Daemon as u8 {
            let (key, actor) = go::actor(tgid, watch);
            record.actor = actor;
            inbound(&key, &actor, &mut record.inbound_cookie, &mut record.inbound_inode);
        }
    })
}

/// kernel: include/trace/events/sched.h:sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    if try_exec().is_none() {
        client::started(&ctx);
    }
    0
}

#[inline(always)]
fn try_exec() -> Option<()> {
    let watch = watched(current_tgid())?;
    let task = Task::current();
    // A new image invalidates everything known of the old one's runtime.
    watch.go = Watch::GO_UNKNOWN;
    watch.misses = 0;
    watch.goid_offset = 0;
    watch.parent_goid_offset = 0;
    // Every container has its own mount namespace, even if it shares all else with the host. So the first execve in a
    // namespace other than the daemon's is that of the container's process.
    if watch.class == WatchClass::RuntimeChild as u8 && watch.mntns != 0 && task.mntns() != watch.mntns {
        watch.class = WatchClass::InContainer as u8;
    }
    describe(Kind::Exec, about_current(), task, watch.class);
    Some(())
}

/// kernel: include/trace/events/sched.h:sched_process_exit(struct task_struct *p)
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(_ctx: BtfTracePointContext) -> i32 {
    let _none = try_exit();
    0
}

#[inline(always)]
fn try_exit() -> Option<()> {
    let tgid = current_tgid();
    let quota = watched(tgid)?.quota;
    // A thread killed inside a call never leaves it: remove its pending calls.
    let thread = current_pid_tgid();
    let _gone = CONNECTING.remove(thread);
    let _gone = SPLICING.remove(thread);
    let status = Task::current().group_exit()?;
    // Remove the entry even if the record is lost: the pid may soon be reused.
    if WATCHED.remove(tgid).is_ok() {
        give_back(quota);
    }
    send!(Kind::Exit, about_current(), |record: &mut Exit| {
        record.status = status;
        record.reserved = 0;
    })
}
