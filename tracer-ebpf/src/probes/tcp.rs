//! TCP connections of the path: listen, connect, accept, close.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_probe_read_kernel,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use tracer_common::{
    Accepted, Actor, ActorKey, Closed, Config, Connected, Counter, Dial, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, Kind,
    Listening, ROLE_ACCEPTED, ROLE_CONNECTED, ROLE_LISTENING, Tracked, UnixAccepted,
};

use super::{SYSCALL_FIRST, word};
use crate::{
    emit::{About, send},
    kernel::{file::socket_of, go, has, sock::Sock, task::about_current, unix},
    maps::{TRACKED, count},
    pairing::{last_received, make_id, tracked},
    watch::{enrol, is_path_port, watched_endpoint},
};

/// include/net/tcp_states.h
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const CLOSE: i32 = 7;
const LISTEN: i32 = 10;

/// kernel: include/trace/events/sock.h:inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sock = sock_of(&ctx);
    let (old, new) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    let _none = match (old, new) {
        (_, LISTEN) => listening(&ctx, sock),
        (_, SYN_SENT) => connecting(&ctx, sock),
        (SYN_SENT, ESTABLISHED) => connected(sock),
        // A simultaneous open, if both ends called connect(2); an accepted end has no entry yet. Make the cookie
        // here, in softirq, so that accept(2) and splice(2), which cannot make one, find it.
        (SYN_RECV, ESTABLISHED) => connected(sock),
        (SYN_SENT, CLOSE) => dial_failed(sock),
        (_, CLOSE) => closed(sock),
        _ => None,
    };
    0
}

/// The socket of the tracepoint. The helper for cookies takes the argument itself; a substitute for a cookie is computed
/// from the address, which the verifier permits only if the address was read as a number.
#[inline(always)]
fn sock_of(ctx: &BtfTracePointContext) -> Sock {
    if has(Config::MAKES_COOKIES) {
        return Sock(ctx.arg::<u64>(0));
    }
    // SAFETY: the first word of the arguments; the helper checks the address.
    Sock(unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>()) }.unwrap_or(0))
}

/// Runs in the process that called listen(2).
#[inline(always)]
fn listening<C: EbpfContext>(ctx: &C, sock: Sock) -> Option<()> {
    if !sock.is_tcp() {
        return None;
    }
    if is_path_port(sock.local_port()) {
        enrol(ctx);
    }
    watched_endpoint()?;
    let cookie = make_id(sock);
    send!(Kind::Listening, about_current(), |record: &mut Listening| {
        sock.describe(cookie, ROLE_LISTENING, &mut record.socket);
    })
}

/// Runs in the process that called connect(2). The local port is not chosen yet (net/ipv4/tcp_ipv4.c:tcp_v4_connect),
/// so `TRACKED` keeps the caller until the connection is established.
#[inline(always)]
fn connecting<C: EbpfContext>(ctx: &C, sock: Sock) -> Option<()> {
    if !sock.is_tcp() {
        return None;
    }
    if is_path_port(sock.remote_port()) {
        enrol(ctx);
    }
    let (tgid, watch) = watched_endpoint()?;
    let (key, actor) = go::actor(tgid, watch);
    let about = about_current();
    let mut tracked = Tracked {
        actor,
        start_ns: about.start_ns,
        inbound_cookie: 0,
        inbound_inode: 0,
        inode: sock.inode(),
        tgid,
        tid: about.tid,
        role: u32::from(ROLE_CONNECTED),
        reserved: 0,
    };
    inbound(&key, &actor, &mut tracked.inbound_cookie, &mut tracked.inbound_inode);
    let key = track_key(sock);
    track(key, &tracked);
    let id = if has(Config::MAKES_COOKIES) { key } else { sock.id() };
    dialled(Kind::Dialling, about, sock, id, &tracked, 0)
}

/// Runs in any context: the other end refused, a timer gave up, or the process closed the socket.
///
/// kernel: net/ipv4/tcp_input.c:tcp_reset, net/ipv4/tcp_ipv4.c:tcp_v4_err and net/ipv4/tcp_timer.c:tcp_write_err store
/// `sk_err` before the state changes. tcp_v4_connect also gets here if no port or route is left; `sk_err` is then 0.
#[inline(always)]
fn dial_failed(sock: Sock) -> Option<()> {
    let (key, entry) = tracked(sock, sock.cookie())?;
    let tracked = *entry;
    let _gone = TRACKED.remove(key);
    let id = if has(Config::MAKES_COOKIES) { key } else { sock.id() };
    let about = About { tgid: tracked.tgid, tid: tracked.tid, start_ns: tracked.start_ns };
    dialled(Kind::DialFailed, about, sock, id, &tracked, sock.error())
}

/// Reports a dial on the path. Others, such as a kubelet's probes of pods, would be most of a node's connections. A
/// runtime dials a pod's port, at the loopback address of the pod's namespace, in a goroutine that has received
/// nothing: errors at loopback addresses are few.
#[inline(always)]
fn dialled(kind: Kind, about: About, sock: Sock, id: u64, tracked: &Tracked, errno: u32) -> Option<()> {
    let has_failed_within = errno != 0 && sock.leads_to_loopback();
    if tracked.inbound_cookie == 0 && !is_path_port(sock.remote_port()) && !has_failed_within {
        return None;
    }
    send!(kind, about, |record: &mut Dial| {
        record.actor = tracked.actor;
        sock.describe(id, ROLE_CONNECTED, &mut record.socket);
        record.inbound_cookie = tracked.inbound_cookie;
        record.inbound_inode = tracked.inbound_inode;
        record.errno = errno;
        record.reserved = 0;
    })
}

/// Key of a new TCP socket in [`TRACKED`].
#[inline(always)]
fn track_key(sock: Sock) -> u64 {
    if has(Config::MAKES_COOKIES) { make_id(sock) } else { sock.address_id() }
}

/// Stores a socket until it closes. With a full map, the end of the connection is not reported.
#[inline(always)]
fn track(cookie: u64, tracked: &Tracked) {
    if TRACKED.insert(cookie, tracked, 0).is_err() {
        count(Counter::TrackedFull);
    }
}

/// The *dial* rule: an actor dials on behalf of the connection on which it received last.
#[inline(always)]
pub fn inbound(key: &ActorKey, actor: &Actor, cookie: &mut u64, inode: &mut u64) {
    if let Some((sock, name)) = last_received(key, actor) {
        *cookie = sock.cookie_behind(name);
        *inode = sock.inode();
    }
}

/// Runs in any context: the SYN-ACK arrived.
#[inline(always)]
fn connected(sock: Sock) -> Option<()> {
    let key = track_key(sock);
    // SAFETY: copied field by field into the record; the entry is not changed after `connecting`.
    let tracked = unsafe { TRACKED.get(key) }?;
    let cookie = if has(Config::MAKES_COOKIES) { key } else { sock.id() };
    let about = About { tgid: tracked.tgid, tid: tracked.tid, start_ns: tracked.start_ns };
    send!(Kind::Connected, about, |record: &mut Connected| {
        record.actor = tracked.actor;
        sock.describe(cookie, ROLE_CONNECTED, &mut record.socket);
        // The hook runs before the kernel stores the new state, so `describe` still skips the sequence numbers.
        sock.describe_isn(&mut record.socket);
        record.inbound_cookie = tracked.inbound_cookie;
        record.inbound_inode = tracked.inbound_inode;
    })
}

/// Runs in any context: the connection is over at this end.
#[inline(always)]
fn closed(sock: Sock) -> Option<()> {
    let cookie = sock.cookie();
    let (key, tracked) = tracked(sock, cookie)?;
    let about = About { tgid: tracked.tgid, tid: 0, start_ns: tracked.start_ns };
    let inode = tracked.inode;
    let _gone = TRACKED.remove(key);
    if !has(Config::MAKES_COOKIES) {
        // The loader may have added the same socket by its cookie.
        let _gone = TRACKED.remove(sock.address_id());
    }
    send!(Kind::Closed, about, |record: &mut Closed| {
        record.cookie = cookie;
        record.inode = if inode == 0 { sock.inode() } else { inode };
        record.bytes_received = sock.bytes_received();
        record.bytes_acked = sock.bytes_acked();
    })
}

/// kernel: net/socket.c:accept4(2)
#[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
pub fn sys_exit_accept4(ctx: TracePointContext) -> u32 {
    let _none = try_accept(&ctx);
    0
}

/// kernel: net/socket.c:accept(2)
#[tracepoint(category = "syscalls", name = "sys_exit_accept")]
pub fn sys_exit_accept(ctx: TracePointContext) -> u32 {
    let _none = try_accept(&ctx);
    0
}

#[inline(always)]
fn try_accept(ctx: &TracePointContext) -> Option<()> {
    let (tgid, _) = watched_endpoint()?;
    let fd = word!(ctx, SYSCALL_FIRST)? as i64;
    if fd < 0 {
        return None;
    }
    let sock = socket_of(fd as u32)?;
    let family = sock.family();
    if family == FAMILY_INET || family == FAMILY_INET6 {
        accepted_tcp(tgid, sock)
    } else if family == FAMILY_UNIX {
        accepted_unix(sock)
    } else {
        None
    }
}

#[inline(always)]
fn accepted_tcp(tgid: u32, sock: Sock) -> Option<()> {
    let about = about_current();
    let cookie = sock.id();
    let tracked = Tracked {
        actor: Actor::NONE,
        start_ns: about.start_ns,
        inbound_cookie: 0,
        inbound_inode: 0,
        inode: sock.inode(),
        tgid,
        tid: about.tid,
        role: u32::from(ROLE_ACCEPTED),
        reserved: 0,
    };
    // The cookie is 0 if the connection is older than the probes or came with a fast open. The socket has its inode
    // by now, and its close is reported only if user space finds it (`Probes::track`). Kernels without the helper never
    // have a cookie here.
    if !has(Config::MAKES_COOKIES) {
        track(sock.address_id(), &tracked);
    } else if sock.cookie() != 0 {
        track(cookie, &tracked);
    }
    send!(Kind::Accepted, about, |record: &mut Accepted| {
        sock.describe(cookie, ROLE_ACCEPTED, &mut record.socket);
    })?;
    // A connection may be reset before it is accepted: no later change of state would remove the entry.
    if sock.state() == CLOSE as u8 { closed(sock) } else { Some(()) }
}

#[inline(always)]
fn accepted_unix(sock: Sock) -> Option<()> {
    send!(Kind::UnixAccepted, about_current(), |record: &mut UnixAccepted| {
        record.inode = sock.inode();
        record.peer_inode = unix::peer(sock).map_or(0, Sock::inode);
        record.peer_tgid = sock.peer_tgid();
        record.reserved = 0;
        unix::path(sock, &mut record.path);
    })
}
