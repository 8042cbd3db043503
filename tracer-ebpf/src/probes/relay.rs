//! Send and receive of any family, by tracepoints: road `length`. Linux ≥ 6.3; splice(2) bypasses both (`splice.rs`).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    kernel::sock::Sock,
    pairing::{ended, is_paired_family, make_id, received, sent},
    watch::watched_endpoint,
};

/// include/linux/socket.h
pub const MSG_PEEK: i32 = 2;

/// kernel: include/trace/events/sock.h:sock_recv_length(struct sock *sk, int ret, int flags). Fires on EAGAIN and EOF too.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    let got = ctx.arg::<i32>(1);
    if got < 0 || ctx.arg::<i32>(2) & MSG_PEEK != 0 {
        return 0;
    }
    if let Some((tgid, watch)) = watched_endpoint() {
        let sock = Sock(ctx.arg::<u64>(0));
        if is_paired_family(sock) {
            let cookie = make_id(sock);
            if got == 0 { ended(tgid, watch, cookie) } else { received(tgid, watch, sock, cookie) }
        }
    }
    0
}

/// kernel: include/trace/events/sock.h:sock_send_length(struct sock *sk, int ret, int flags)
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(1) <= 0 {
        return 0;
    }
    if let Some((tgid, watch)) = watched_endpoint() {
        let sock = Sock(ctx.arg::<u64>(0));
        if is_paired_family(sock) {
            sent(tgid, watch, sock, make_id(sock), false);
        }
    }
    0
}
