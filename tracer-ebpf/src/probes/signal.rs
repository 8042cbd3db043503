//! Signals that end a process on the path, and who sent them.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_comm, bpf_probe_read_kernel},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tracer_common::{Kind, SENT_BY_KERNEL, SENT_BY_PROCESS, SENT_FOR_MEMORY, Signalled};

use crate::{
    emit::{About, send},
    kernel::task::{Task, about_current},
    watch::watched,
};

/// SIGHUP, SIGINT, SIGQUIT, SIGKILL and SIGTERM (include/uapi/asm-generic/signal.h), by number. Others are a program's own
/// errors, or end nothing.
const ENDING: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << SIGKILL | 1 << 15;
const SIGKILL: u32 = 9;
/// include/trace/events/signal.h:TRACE_SIGNAL_DELIVERED
const DELIVERED: i32 = 0;
/// include/linux/sched/signal.h:SEND_SIG_PRIV. Other values are SEND_SIG_NOINFO (0) and addresses.
const SEND_SIG_PRIV: u64 = 1;

/// Runs in the process that sends the signal.
///
/// kernel: include/trace/events/signal.h:signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    let signal = ctx.arg::<i32>(0) as u32;
    // Most signals are SIGCHLD.
    if signal > 15 || ENDING & (1 << signal) == 0 || ctx.arg::<i32>(4) != DELIVERED {
        return 0;
    }
    let by = if ctx.arg::<u64>(1) == SEND_SIG_PRIV { SENT_BY_KERNEL } else { SENT_BY_PROCESS };
    let _none = try_signal(Task(ctx.arg::<u64>(2)).tgid(), signal, by);
    0
}

/// Runs in the process that found no memory.
///
/// kernel: include/trace/events/oom.h:mark_victim(struct task_struct *task, uid_t uid); before Linux 6.9 mark_victim(int pid)
#[btf_tracepoint(function = "mark_victim")]
pub fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    // The verifier knows the argument of newer kernels as an address, which no program may compare with a number.
    // SAFETY: the first word of the arguments; the helper checks the address.
    let Ok(first) = (unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>()) }) else { return 0 };
    // The upper half of a register with an int is undefined, that of an address in the kernel has its highest bits set.
    let tgid = if first >> 63 == 0 { Some(first as u32) } else { Task(first).tgid() };
    let _none = try_signal(tgid, SIGKILL, SENT_FOR_MEMORY);
    0
}

#[inline(always)]
fn try_signal(tgid: Option<u32>, signal: u32, by: u32) -> Option<()> {
    let tgid = tgid?;
    let about = About { tgid, tid: 0, start_ns: watched(tgid)?.start_ns };
    let sender = about_current();
    send!(Kind::Signalled, about, |record: &mut Signalled| {
        record.signal = signal;
        record.sent_by = by;
        record.sender_start_ns = sender.start_ns;
        record.sender_tgid = sender.tgid;
        record.sender_uid = Task::current().uid();
        record.sender_comm = bpf_get_current_comm().unwrap_or([0; 16]);
    })
}
