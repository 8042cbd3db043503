//! Send and receive by the system calls themselves: road `syscalls`, for kernels where neither the tracepoints of
//! `relay.rs` nor the functions of `fexit.rs` can be probed. Every read(2) and write(2) of the host runs such a probe.
//!
//! The exit of a call has its result only. The saved registers still hold the arguments: first the descriptor. A
//! descriptor names the same socket at the end of the call as at its beginning, unless another thread closes it in
//! between. Go forbids that: a descriptor is closed after its last call (src/internal/poll/fd_mutex.go).

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use tracer_common::Offsets;

use super::{SYSCALL_FIRST, relay::MSG_PEEK, word};
use crate::{
    kernel::{config, file::socket_of, read, sock::Sock, task::Task},
    pairing::{ended, is_paired_family, received, received_unknown, sent},
    watch::watched_endpoint,
};

/// kernel: fs/read_write.c:read(unsigned int fd, char *buf, size_t count)
#[tracepoint(category = "syscalls", name = "sys_exit_read")]
pub fn sys_exit_read(ctx: TracePointContext) -> u32 {
    receive(ctx, Offsets::ABSENT)
}

/// kernel: fs/read_write.c:readv(unsigned long fd, const struct iovec *vec, unsigned long vlen)
#[tracepoint(category = "syscalls", name = "sys_exit_readv")]
pub fn sys_exit_readv(ctx: TracePointContext) -> u32 {
    receive(ctx, Offsets::ABSENT)
}

/// kernel: fs/read_write.c:preadv2(unsigned long fd, …), which reads a socket if its offset is -1
#[tracepoint(category = "syscalls", name = "sys_exit_preadv2")]
pub fn sys_exit_preadv2(ctx: TracePointContext) -> u32 {
    receive(ctx, Offsets::ABSENT)
}

/// kernel: net/socket.c:recvfrom(int fd, void *ubuf, size_t size, unsigned int flags, …)
#[tracepoint(category = "syscalls", name = "sys_exit_recvfrom")]
pub fn sys_exit_recvfrom(ctx: TracePointContext) -> u32 {
    receive(ctx, config!(fourth_argument))
}

/// kernel: net/socket.c:recvmsg(int fd, struct user_msghdr *msg, unsigned int flags)
#[tracepoint(category = "syscalls", name = "sys_exit_recvmsg")]
pub fn sys_exit_recvmsg(ctx: TracePointContext) -> u32 {
    receive(ctx, config!(third_argument))
}

/// kernel: net/socket.c:recvmmsg(int fd, struct mmsghdr *mmsg, unsigned int vlen, unsigned int flags, …)
#[tracepoint(category = "syscalls", name = "sys_exit_recvmmsg")]
pub fn sys_exit_recvmmsg(ctx: TracePointContext) -> u32 {
    let _none = try_receive_many(&ctx);
    0
}

/// kernel: fs/read_write.c:write(unsigned int fd, const char *buf, size_t count)
#[tracepoint(category = "syscalls", name = "sys_exit_write")]
pub fn sys_exit_write(ctx: TracePointContext) -> u32 {
    send(ctx)
}

/// kernel: fs/read_write.c:writev(unsigned long fd, const struct iovec *vec, unsigned long vlen)
#[tracepoint(category = "syscalls", name = "sys_exit_writev")]
pub fn sys_exit_writev(ctx: TracePointContext) -> u32 {
    send(ctx)
}

/// kernel: fs/read_write.c:pwritev2(unsigned long fd, …), which writes to a socket if its offset is -1
#[tracepoint(category = "syscalls", name = "sys_exit_pwritev2")]
pub fn sys_exit_pwritev2(ctx: TracePointContext) -> u32 {
    send(ctx)
}

/// kernel: net/socket.c:sendto(int fd, void *buff, size_t len, unsigned int flags, …)
#[tracepoint(category = "syscalls", name = "sys_exit_sendto")]
pub fn sys_exit_sendto(ctx: TracePointContext) -> u32 {
    send(ctx)
}

/// kernel: net/socket.c:sendmsg(int fd, struct user_msghdr *msg, unsigned int flags)
#[tracepoint(category = "syscalls", name = "sys_exit_sendmsg")]
pub fn sys_exit_sendmsg(ctx: TracePointContext) -> u32 {
    send(ctx)
}

/// kernel: net/socket.c:sendmmsg(int fd, struct mmsghdr *mmsg, unsigned int vlen, unsigned int flags)
#[tracepoint(category = "syscalls", name = "sys_exit_sendmmsg")]
pub fn sys_exit_sendmmsg(ctx: TracePointContext) -> u32 {
    send(ctx)
}

/// Handles the exit of a receive, as a function of its own: copies in every program would double the object's size.
/// `flags_at` is the offset of the call's flags in the saved registers, or [`Offsets::ABSENT`].
#[inline(never)]
fn receive(ctx: TracePointContext, flags_at: u32) -> u32 {
    let _none = try_receive(&ctx, flags_at);
    0
}

#[inline(always)]
fn try_receive(ctx: &TracePointContext, flags_at: u32) -> Option<()> {
    let (tgid, watch) = watched_endpoint()?;
    let got = word!(ctx, SYSCALL_FIRST)? as i64;
    if got < 0 {
        return None;
    }
    let registers = Task::current_registers();
    if flags_at != Offsets::ABSENT && read::<u64>(registers, flags_at)? as i32 & MSG_PEEK != 0 {
        return None;
    }
    let (sock, id) = sock_of(registers)?;
    if got == 0 {
        ended(tgid, watch, id)
    } else {
        received(tgid, watch, sock, id)
    }
    Some(())
}

/// Handles the exit of a send.
#[inline(never)]
fn send(ctx: TracePointContext) -> u32 {
    let _none = try_send(&ctx);
    0
}

/// Handles the exit of recvmmsg(2). Its result is a number of messages, so EOF looks like data.
#[inline(always)]
fn try_receive_many(ctx: &TracePointContext) -> Option<()> {
    let (tgid, watch) = watched_endpoint()?;
    if word!(ctx, SYSCALL_FIRST)? as i64 <= 0 {
        return None;
    }
    sock_of(Task::current_registers())?;
    received_unknown(tgid, watch);
    Some(())
}

#[inline(always)]
fn try_send(ctx: &TracePointContext) -> Option<()> {
    let (tgid, watch) = watched_endpoint()?;
    if word!(ctx, SYSCALL_FIRST)? as i64 <= 0 {
        return None;
    }
    let (sock, id) = sock_of(Task::current_registers())?;
    sent(tgid, watch, sock, id, false);
    Some(())
}

/// The socket of the call that ends, and its id; `None` for other files.
#[inline(always)]
fn sock_of(registers: u64) -> Option<(Sock, u64)> {
    let fd = read::<u64>(registers, config!(first_argument))? as u32;
    let sock = socket_of(fd)?;
    if !is_paired_family(sock) {
        return None;
    }
    let id = sock.id();
    (id != 0).then_some((sock, id))
}
