//! splice(2), with which Go's io.Copy moves bytes between plain TCP connections. The socket is the input of one call
//! and the output of the next, with a pipe in between.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use tracer_common::Counter;

use super::{SYSCALL_FIRST, argument, word};
use crate::{
    kernel::{file::socket_of, sock::Sock, task::current_pid_tgid},
    maps::{SPLICING, Splicing, count},
    pairing::{is_paired_family, received, sent},
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
        let splicing = Splicing { from, from_cookie: Sock(from).id(), to, to_cookie: Sock(to).id() };
        if SPLICING.insert(current_pid_tgid(), splicing, 0).is_err() {
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
    let splicing = *unsafe { SPLICING.get(key) }?;
    let _gone = SPLICING.remove(key);
    if (word!(ctx, SYSCALL_FIRST)? as i64) <= 0 {
        return None;
    }
    // No helper may make a cookie here. Every TCP socket got one when its connection was established (`tcp.rs`);
    // sockets older than the tracer got one when sock_diag listed them at the start. Where no probe makes cookies, the
    // inode serves.
    let (from, to) = (Sock(splicing.from), Sock(splicing.to));
    let is_same =
        |sock: Sock, cookie: u64| sock.0 != 0 && cookie != 0 && sock.still_has(cookie) && is_paired_family(sock);
    if is_same(from, splicing.from_cookie) {
        received(tgid, watch, from, splicing.from_cookie);
    }
    if is_same(to, splicing.to_cookie) {
        sent(tgid, watch, to, splicing.to_cookie, true);
    }
    Some(())
}
