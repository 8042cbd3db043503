//! Send and receive of TCP and unix stream sockets, by their functions: road `fexit`, for kernels without the
//! tracepoints of `relay.rs`. splice(2) bypasses these functions too (`splice.rs`).
//!
//! The result follows the arguments: it is argument 3 of a send, argument 4 of a receive.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use tracer_common::Config;

use super::relay::MSG_PEEK;
use crate::{
    kernel::{has, offset, pointer, sock::Sock},
    pairing::{ended, make_id, received, sent},
    watch::watched_endpoint,
};

/// kernel: net/ipv4/af_inet.c:inet_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
#[fexit(function = "inet_recvmsg")]
pub fn inet_recvmsg(ctx: FExitContext) -> i32 {
    receive(ctx)
}

/// kernel: net/ipv6/af_inet6.c:inet6_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
#[fexit(function = "inet6_recvmsg")]
pub fn inet6_recvmsg(ctx: FExitContext) -> i32 {
    receive(ctx)
}

/// kernel: net/unix/af_unix.c:unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
#[fexit(function = "unix_stream_recvmsg")]
pub fn unix_stream_recvmsg(ctx: FExitContext) -> i32 {
    receive(ctx)
}

/// kernel: net/ipv4/af_inet.c:inet_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)
#[fexit(function = "inet_sendmsg")]
pub fn inet_sendmsg(ctx: FExitContext) -> i32 {
    send(ctx)
}

/// kernel: net/ipv6/af_inet6.c:inet6_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)
#[fexit(function = "inet6_sendmsg")]
pub fn inet6_sendmsg(ctx: FExitContext) -> i32 {
    send(ctx)
}

/// kernel: net/unix/af_unix.c:unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
#[fexit(function = "unix_stream_sendmsg")]
pub fn unix_stream_sendmsg(ctx: FExitContext) -> i32 {
    send(ctx)
}

/// Handles the exit of a receive, as a function of its own: copies in every program would double the object's size.
#[inline(never)]
fn receive(ctx: FExitContext) -> i32 {
    let _none = try_receive(&ctx);
    0
}

/// Handles the exit of a send.
#[inline(never)]
fn send(ctx: FExitContext) -> i32 {
    let _none = try_send(&ctx);
    0
}

#[inline(always)]
fn try_receive(ctx: &FExitContext) -> Option<()> {
    let got = ctx.arg::<i32>(4);
    if got < 0 || ctx.arg::<i32>(3) & MSG_PEEK != 0 {
        return None;
    }
    let (tgid, watch) = watched_endpoint()?;
    let (sock, id) = sock_of(ctx)?;
    if got == 0 {
        ended(tgid, watch, id)
    } else {
        received(tgid, watch, sock, id)
    }
    Some(())
}

#[inline(always)]
fn try_send(ctx: &FExitContext) -> Option<()> {
    if ctx.arg::<i32>(3) <= 0 {
        return None;
    }
    let (tgid, watch) = watched_endpoint()?;
    let (sock, id) = sock_of(ctx)?;
    sent(tgid, watch, sock, id, false);
    Some(())
}

/// The `struct sock` of the function's socket, and its id.
///
/// kernel: include/linux/net.h:struct socket
#[inline(always)]
fn sock_of(ctx: &FExitContext) -> Option<(Sock, u64)> {
    let at = offset!(socket_sk);
    if !has(Config::MAKES_COOKIES) {
        let sock = pointer(ctx.arg::<u64>(0), at).map(Sock)?;
        return Some((sock, make_id(sock)));
    }
    // SAFETY: a field of the function's argument, at a constant offset. The verifier tracks the type of the pointer, so
    // that the helper accepts it.
    let sk = unsafe { ctx.arg::<*const u8>(0).add(at as usize).cast::<*const u8>().read() };
    if sk.is_null() {
        return None;
    }
    let sock = Sock(sk as u64);
    Some((sock, make_id(sock)))
}
