//! connect(2) to unix sockets. For TCP, `tcp.rs` handles connects by their changes of state.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use tracer_common::{Counter, FAMILY_UNIX, Kind, UnixConnected};

use super::{SYSCALL_FIRST, argument, word};
use crate::{
    emit::send,
    kernel::{
        file::socket_of,
        task::{about_current, current_pid_tgid},
        unix,
    },
    maps::{CONNECTING, count},
    watch::watched_endpoint,
};

/// kernel: net/socket.c:connect(int fd, struct sockaddr *uservaddr, int addrlen)
#[tracepoint(category = "syscalls", name = "sys_enter_connect")]
pub fn sys_enter_connect(ctx: TracePointContext) -> u32 {
    if watched_endpoint().is_some()
        && let Some(fd) = word!(ctx, argument(0))
        && CONNECTING.insert(current_pid_tgid(), fd as u32, 0).is_err()
    {
        count(Counter::SyscallsFull);
    }
    0
}

/// kernel: net/socket.c:connect(2), its return value
#[tracepoint(category = "syscalls", name = "sys_exit_connect")]
pub fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    let _none = try_connected(&ctx);
    0
}

#[inline(always)]
fn try_connected(ctx: &TracePointContext) -> Option<()> {
    watched_endpoint()?;
    let key = current_pid_tgid();
    // SAFETY: one word, written by this thread.
    let fd = *unsafe { CONNECTING.get(key) }?;
    let _gone = CONNECTING.remove(key);
    if word!(ctx, SYSCALL_FIRST)? != 0 {
        return None;
    }
    let sock = socket_of(fd)?;
    if sock.family() != FAMILY_UNIX {
        return None;
    }
    let server = unix::peer(sock)?;
    send!(Kind::UnixConnected, about_current(), |record: &mut UnixConnected| {
        record.inode = sock.inode();
        record.listener_tgid = sock.peer_tgid();
        record.reserved = 0;
        unix::path(server, &mut record.path);
    })
}
