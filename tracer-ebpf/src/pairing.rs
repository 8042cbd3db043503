//! Pairs inbound with outbound connections inside a process.
//!
//! An actor is a goroutine or, if the process is not Go, a thread. The object stores the socket on which an actor
//! received last. If the actor then connects, sends elsewhere or makes a FIFO, the two belong together. A socket
//! closed in between is discarded: a `g` serves many goroutines one after another, and would otherwise pair thousands
//! of unrelated connections.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use tracer_common::{
    Actor, ActorKey, Config, Counter, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, HOW_SPLICE, Kind, Last, PairKey,
    ROLE_UNKNOWN, Relayed, TouchKey, Touched, Tracked, Watch,
};

use crate::{
    emit::send,
    kernel::{
        go, has,
        sock::Sock,
        task::{about_current, current_pid_tgid},
    },
    maps::{LAST, PAIRS, SPLICING, TOUCHED, TRACKED, count},
    reads,
};

/// Value of [`TOUCHED`] after two goroutines of a creator were reported.
const REPORTED_TWICE: u64 = u64::MAX;
/// Limit of reported creators per socket. A session's own leg has two or three.
const MAX_CREATORS: u64 = 16;

/// Id of a socket from the arguments of a tracepoint or function: its cookie, which the kernel makes if necessary. On
/// kernels without that helper, a socket without a cookie has a substitute.
#[inline(always)]
pub fn make_id(sock: Sock) -> u64 {
    if !has(Config::MAKES_COOKIES) {
        return sock.id();
    }
    // SAFETY: called only with a socket pointer that the verifier tracks, as it checks.
    unsafe { bpf_get_socket_cookie(sock.0 as *mut _) }
}

/// Key of a TCP socket in [`TRACKED`], and its entry. `id` is the cookie or a substitute.
#[inline(always)]
pub fn tracked(sock: Sock, id: u64) -> Option<(u64, &'static Tracked)> {
    let cookie = sock.cookie_behind(id);
    if cookie != 0 {
        // SAFETY: map values stay mapped while the program runs, and the entry is written before the socket is known.
        if let Some(found) = unsafe { TRACKED.get(cookie) } {
            return Some((cookie, found));
        }
    }
    if has(Config::MAKES_COOKIES) {
        return None;
    }
    let key = sock.address_id();
    // SAFETY: as above.
    unsafe { TRACKED.get(key) }.map(|found| (key, found))
}

/// True if sockets of this family are paired. Netlink and others carry no session.
#[inline(always)]
pub fn is_paired_family(sock: Sock) -> bool {
    let family = sock.family();
    family == FAMILY_INET || family == FAMILY_INET6 || family == FAMILY_UNIX
}

/// Handles a receive of the running actor from `sock`.
#[inline(always)]
pub fn received(tgid: u32, watch: &mut Watch, sock: Sock, cookie: u64) {
    let (key, actor) = go::actor(tgid, watch);
    let last = Last { sk: sock.0, cookie, goid: actor.goid };
    match LAST.get_ptr_mut(key) {
        // SAFETY: the entry belongs to the running actor: nothing else writes it.
        Some(known) => unsafe { *known = last },
        // A full map costs a pair and never makes a wrong one.
        None if LAST.insert(key, last, 0).is_err() => {
            count(Counter::LastFull);
        }
        None => {}
    }
    reads::forget(&key);
    touched(tgid, &actor, sock, cookie);
}

/// Handles EOF on `sock`: drops the entry, so that a goroutine that reuses this `g` is not paired with `sock`.
#[inline(always)]
pub fn ended(tgid: u32, watch: &mut Watch, cookie: u64) {
    let (key, _) = go::actor(tgid, watch);
    // SAFETY: one word is read.
    if unsafe { LAST.get(key) }.is_some_and(|last| last.cookie == cookie) {
        let _gone = LAST.remove(key);
    }
}

/// Handles a receive whose result does not tell data from EOF: the actor's last receive is unknown from now on.
#[inline(always)]
pub fn received_unknown(tgid: u32, watch: &mut Watch) {
    let (key, _) = go::actor(tgid, watch);
    let _gone = LAST.remove(key);
}

/// The socket on which this actor received last, if the socket is still open and the goroutine is the same.
#[inline(always)]
pub fn last_received(key: &ActorKey, actor: &Actor) -> Option<(Sock, u64)> {
    // SAFETY: copied at once; the comparison of cookies below detects a torn read.
    let last = unsafe { LAST.get(key) }?;
    let (sock, cookie, goid) = (Sock(last.sk), last.cookie, last.goid);
    // An id is 0 if it was stored or read before the loader provided its offset.
    let same_goroutine = goid == 0 || actor.goid == 0 || goid == actor.goid;
    let same = same_goroutine && cookie != 0 && sock.still_has(cookie) && sock.is_open();
    same.then_some((sock, cookie))
}

/// Origin of a socket, as far as the object saw it.
#[inline(always)]
pub fn role_of(sock: Sock, cookie: u64) -> u8 {
    tracked(sock, cookie).map_or(ROLE_UNKNOWN, |(_, tracked)| tracked.role as u8)
}

/// Handles a send of the running actor to `sock`: reports the pair, once per direction.
#[inline(always)]
pub fn sent(tgid: u32, watch: &mut Watch, sock: Sock, cookie: u64, splice: bool) {
    let (key, actor) = go::actor(tgid, watch);
    if cookie == 0 {
        return;
    }
    touched(tgid, &actor, sock, cookie);
    reads::sent(&key, &actor, sock, cookie);
    let Some((from, from_cookie)) = last_received(&key, &actor) else { return };
    // One socket can have two ids: a substitute until something makes its cookie, then the cookie.
    if from_cookie == cookie || from.0 == sock.0 {
        return;
    }
    let pair = PairKey { from: from_cookie, to: cookie };
    if PAIRS.get_ptr(pair).is_some() {
        return;
    }
    let reported = report(&actor, from, from_cookie, sock, cookie, splice);
    // On a full ring buffer, report the pair at the next send.
    if reported {
        let _full = PAIRS.insert(pair, 1, 0);
    }
}

#[inline(always)]
fn report(actor: &Actor, from: Sock, from_cookie: u64, to: Sock, to_cookie: u64, splice: bool) -> bool {
    send!(Kind::Relayed, about_current(), |record: &mut Relayed| {
        record.actor = *actor;
        from.describe(from_cookie, role_of(from, from_cookie), &mut record.from);
        to.describe(to_cookie, role_of(to, to_cookie), &mut record.to);
        // kernel: fs/splice.c:splice_to_socket sends by sendmsg (since 6.5), whose tracepoint fires before the call ends.
        // SAFETY: one word is read, written by this thread.
        let splice = splice || unsafe { SPLICING.get(current_pid_tgid()) }.is_some_and(|call| call.to == to.0);
        record.how = if splice { HOW_SPLICE } else { 0 };
        record.reserved = 0;
    })
    .is_some()
}

/// Handles bytes that the running actor moved on `sock`: reports the first two goroutines of each creator. In a
/// translating proxy no goroutine copies, but goroutines of one creator touch both connections of a session.
#[inline(always)]
fn touched(tgid: u32, actor: &Actor, sock: Sock, cookie: u64) {
    // With unknown offsets both ids are 0, and nothing is reported.
    if !actor.has_creator() || cookie == 0 || sock.family() == FAMILY_UNIX {
        return;
    }
    let key = TouchKey { parent_goid: actor.parent_goid, cookie, tgid, reserved: 0 };
    // SAFETY: one word is read.
    let reported = unsafe { TOUCHED.get(key) }.copied().unwrap_or(0);
    if reported == REPORTED_TWICE || reported == actor.goid || !sock.is_tcp() {
        return;
    }
    // A connection touched by goroutines of many creators is shared (HTTP/2: one creator per request) and belongs to
    // no session.
    let own = TouchKey { parent_goid: 0, ..key };
    // SAFETY: one word is read.
    let creators = unsafe { TOUCHED.get(own) }.copied().unwrap_or(0);
    if reported == 0 && creators >= MAX_CREATORS {
        return;
    }
    // On a full ring buffer, report the goroutine at the next call.
    if report_touched(actor, sock, cookie) {
        let _full = TOUCHED.insert(key, if reported == 0 { actor.goid } else { REPORTED_TWICE }, 0);
        if reported == 0 {
            let _full = TOUCHED.insert(own, creators + 1, 0);
        }
    }
}

#[inline(always)]
fn report_touched(actor: &Actor, sock: Sock, cookie: u64) -> bool {
    send!(Kind::Touched, about_current(), |record: &mut Touched| {
        record.actor = *actor;
        sock.describe(cookie, role_of(sock, cookie), &mut record.socket);
    })
    .is_some()
}
