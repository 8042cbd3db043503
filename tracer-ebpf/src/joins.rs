//! Which inbound connection belongs to which outbound one, inside a process.
//!
//! An actor is a goroutine, or a thread where the process is not Go. What it received from last is remembered; when it
//! then connects, sends elsewhere or makes a FIFO, the two belong together. A socket closed in between is forgotten: a `g`
//! serves many goroutines one after another, and without this thousands of strangers would be paired.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use tracer_common::{
    Actor, Counter, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, HOW_SPLICE, HOW_THREAD, Kind, Last, LastKey, PairKey,
    ROLE_UNKNOWN, Relayed, TouchKey, Touched, Watch,
};

use crate::{
    emit::reserve,
    kernel::{
        go,
        sock::Sock,
        task::{about_current, current_pid_tgid},
    },
    maps::{LAST, PAIRS, SPLICING, TOUCHED, TRACKED, count},
    reads,
};

/// Two goroutines of that creator were told of.
const TOLD_TWICE: u64 = u64::MAX;
/// Creators of one socket that are told of: a session's own leg has two or three.
const MANY_CREATORS: u64 = 16;

/// The cookie of a socket that a BTF tracepoint was given; makes one where there is none.
#[inline(always)]
pub fn make_cookie(sock: Sock) -> u64 {
    // SAFETY: only called with a socket pointer straight from a tracepoint's arguments, as the verifier checks.
    unsafe { bpf_get_socket_cookie(sock.0 as *mut _) }
}

/// Whether sockets of this family are joined: netlink and others carry no session.
#[inline(always)]
pub fn is_joinable(sock: Sock) -> bool {
    let family = sock.family();
    family == FAMILY_INET || family == FAMILY_INET6 || family == FAMILY_UNIX
}

/// The running actor received from `sock`.
#[inline(always)]
pub fn received(tgid: u32, watch: &mut Watch, sock: Sock, cookie: u64) {
    let (key, actor) = go::actor(tgid, watch);
    let last = Last { sk: sock.0, cookie, goid: actor.goid };
    match LAST.get_ptr_mut(key) {
        // SAFETY: the entry is this actor's own, and the actor is here: nothing else writes it.
        Some(known) => unsafe { *known = last },
        // One join less, never a wrong one.
        None if LAST.insert(key, last, 0).is_err() => {
            count(Counter::LastFull);
        }
        None => {}
    }
    reads::forget(&key);
    touched(tgid, &actor, sock, cookie);
}

/// The running actor found `sock` at its end: it has nothing more of it to pass on, and whoever gets its `g` next never had.
#[inline(always)]
pub fn ended(tgid: u32, watch: &mut Watch, cookie: u64) {
    let (key, _) = go::actor(tgid, watch);
    // SAFETY: one word is read.
    if unsafe { LAST.get(key) }.is_some_and(|last| last.cookie == cookie) {
        let _gone = LAST.remove(key);
    }
}

/// The socket on which that actor received last, if it is still the same open socket and the same goroutine.
#[inline(always)]
pub fn last_received(key: &LastKey, actor: &Actor) -> Option<(Sock, u64)> {
    // SAFETY: copied out at once; a torn read is caught by the comparison of cookies below.
    let last = unsafe { LAST.get(key) }?;
    let (sock, cookie, goid) = (Sock(last.sk), last.cookie, last.goid);
    // 0: noted, or asked, before the loader told where the id is.
    let same_goroutine = goid == 0 || actor.goid == 0 || goid == actor.goid;
    let same = same_goroutine && cookie != 0 && sock.cookie() == cookie && sock.is_open();
    same.then_some((sock, cookie))
}

/// How the socket of that cookie came to be, as far as it was seen.
#[inline(always)]
pub fn role_of(cookie: u64) -> u8 {
    // SAFETY: one word is read.
    unsafe { TRACKED.get(cookie) }.map_or(ROLE_UNKNOWN, |tracked| tracked.role as u8)
}

/// The running actor sent to `sock`: tells the pair, once per direction.
#[inline(always)]
pub fn sent(tgid: u32, watch: &mut Watch, sock: Sock, cookie: u64, splice: bool) {
    let (key, actor) = go::actor(tgid, watch);
    if cookie == 0 {
        return;
    }
    touched(tgid, &actor, sock, cookie);
    reads::sent(&key, &actor, sock, cookie);
    let Some((from, from_cookie)) = last_received(&key, &actor) else { return };
    if from_cookie == cookie {
        return;
    }
    let pair = PairKey { from: from_cookie, to: cookie };
    if let Some(sightings) = PAIRS.get_ptr_mut(pair) {
        // SAFETY: a word in a map value; a lost increment does no harm.
        unsafe { *sightings = (*sightings).saturating_add(1) };
        return;
    }
    let told = tell(&actor, from, from_cookie, sock, cookie, splice);
    // What did not fit is told at the next sighting.
    if told {
        let _full = PAIRS.insert(pair, 1, 0);
    }
}

#[inline(always)]
fn tell(actor: &Actor, from: Sock, from_cookie: u64, to: Sock, to_cookie: u64, splice: bool) -> bool {
    let Some(mut entry) = reserve::<Relayed>(Kind::Relayed, about_current()) else { return false };
    // SAFETY: the place in the ring buffer is ours until it is submitted, and large enough.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.actor = *actor;
    from.describe(from_cookie, role_of(from_cookie), &mut record.from);
    to.describe(to_cookie, role_of(to_cookie), &mut record.to);
    record.sightings = 1;
    // kernel: fs/splice.c:splice_to_socket sends by sendmsg (since 6.5), whose tracepoint comes before the call's end.
    // SAFETY: one word is read, written by this thread.
    let splice = splice || unsafe { SPLICING.get(current_pid_tgid()) }.is_some_and(|call| call.to == to.0);
    record.how = if splice { HOW_SPLICE } else { 0 } | if actor.g == 0 { HOW_THREAD } else { 0 };
    entry.submit(0);
    true
}

/// The running actor moved bytes on `sock`: tells it for the first two goroutines of each creator. In a proxy that translates
/// no goroutine copies, but those that one goroutine started touch the two connections of one session.
#[inline(always)]
fn touched(tgid: u32, actor: &Actor, sock: Sock, cookie: u64) {
    // Nothing where the offsets are not known: both ids are 0 then.
    if !actor.has_creator() || cookie == 0 || sock.family() == FAMILY_UNIX {
        return;
    }
    let key = TouchKey { parent_goid: actor.parent_goid, cookie, tgid, reserved: 0 };
    // SAFETY: one word is read.
    let told = unsafe { TOUCHED.get(key) }.copied().unwrap_or(0);
    if told == TOLD_TWICE || told == actor.goid || !sock.is_tcp() {
        return;
    }
    // A connection that many creators' goroutines touch is shared (HTTP/2: one a request), and no session's.
    let own = TouchKey { parent_goid: 0, ..key };
    // SAFETY: one word is read.
    let creators = unsafe { TOUCHED.get(own) }.copied().unwrap_or(0);
    if told == 0 && creators >= MANY_CREATORS {
        return;
    }
    // What did not fit is told at the next sighting.
    if tell_touched(actor, sock, cookie) {
        let _full = TOUCHED.insert(key, if told == 0 { actor.goid } else { TOLD_TWICE }, 0);
        if told == 0 {
            let _full = TOUCHED.insert(own, creators + 1, 0);
        }
    }
}

#[inline(always)]
fn tell_touched(actor: &Actor, sock: Sock, cookie: u64) -> bool {
    let Some(mut entry) = reserve::<Touched>(Kind::Touched, about_current()) else { return false };
    // SAFETY: the place in the ring buffer is ours until it is submitted, and large enough.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.actor = *actor;
    sock.describe(cookie, role_of(cookie), &mut record.socket);
    entry.submit(0);
    true
}
