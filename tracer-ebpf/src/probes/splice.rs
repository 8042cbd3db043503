//! splice(2): how Go's io.Copy moves bytes between plain TCP connections. The socket is its input in one call, its output
//! in the next, with a pipe in between.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use tracer_common::Counter;

use super::{SYSCALL_FIRST, argument, word};
use crate::{
    joins::{is_joinable, received, sent},
    kernel::{file::socket_of, sock::Sock, task::current_pid_tgid},
    maps::{SPLICING, Splicing, count},
    watch::watched_endpoint,
};

/// kernel: fs/splice.c:splice(int fd_in, loff_t *off_in, int fd_out, loff_t *off_out, size_t len, unsigned int flags)
#[tracepoint(category = "syscalls", name = "sys_enter_splice")]
pub fn sys_enter_splice(ctx: TracePointContext) -> u32 {
    let _none = try_enter(&ctx);
    0
}

#[inline(always)]
fn try_enter(ctx: &TracePointContext) -> Option<()> {
    watched_endpoint()?;
    let from = word!(ctx, argument(0)).and_then(|fd| socket_of(fd as u32)).map_or(0, |sock| sock.0);
    let to = word!(ctx, argument(2)).and_then(|fd| socket_of(fd as u32)).map_or(0, |sock| sock.0);
    if from != 0 || to != 0 {
        let under_way = Splicing { from, from_cookie: Sock(from).cookie(), to, to_cookie: Sock(to).cookie() };
        if SPLICING.insert(current_pid_tgid(), under_way, 0).is_err() {
            count(Counter::SyscallsFull);
        }
    }
    Some(())
}

/// kernel: fs/splice.c:splice(2), its return value
#[tracepoint(category = "syscalls", name = "sys_exit_splice")]
pub fn sys_exit_splice(ctx: TracePointContext) -> u32 {
    let _none = try_exit(&ctx);
    0
}

#[inline(always)]
fn try_exit(ctx: &TracePointContext) -> Option<()> {
    let (tgid, watch) = watched_endpoint()?;
    let key = current_pid_tgid();
    // SAFETY: four words, written by this thread.
    let under_way = *unsafe { SPLICING.get(key) }?;
    let _gone = SPLICING.remove(key);
    if (word!(ctx, SYSCALL_FIRST)? as i64) <= 0 {
        return None;
    }
    // No helper may make a cookie here; every TCP socket got one when its connection stood (`tcp.rs`), older ones when
    // sock_diag listed them at the start.
    let (from, to) = (Sock(under_way.from), Sock(under_way.to));
    let is_same = |sock: Sock, cookie: u64| sock.0 != 0 && cookie != 0 && sock.cookie() == cookie && is_joinable(sock);
    if is_same(from, under_way.from_cookie) {
        received(tgid, watch, from, under_way.from_cookie);
    }
    if is_same(to, under_way.to_cookie) {
        sent(tgid, watch, to, under_way.to_cookie, true);
    }
    Some(())
}
