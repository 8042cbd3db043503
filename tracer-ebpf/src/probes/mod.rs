//! One file per family. Entries are thin; the functions that they call hold the logic.

mod client;
mod execve;
mod fexit;
mod fifo;
mod open;
mod process;
mod read;
mod relay;
mod signal;
mod splice;
mod syscalls;
mod tcp;
mod unix;

/// Offset of the arguments in a `sys_enter_*` tracepoint, and of the result in a `sys_exit_*` one
/// (kernel/trace/trace_syscalls.c: `struct syscall_trace_enter`, `struct syscall_trace_exit`).
const SYSCALL_FIRST: usize = 16;

/// Offset of the n-th argument of a `sys_enter_*` tracepoint. Each argument is a word.
const fn argument(n: usize) -> usize {
    SYSCALL_FIRST + n * 8
}

/// Reads a word of a syscall tracepoint.
macro_rules! word {
    ($ctx:expr, $at:expr) => {
        // SAFETY: the tracepoint's record is at least this long; the helper checks.
        unsafe { $ctx.read_at::<u64>($at) }.ok()
    };
}
use word;
