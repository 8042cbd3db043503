//! Which FIFO a goroutine copies to which socket, while reads are watched.
//!
//! Noted when read(2) is entered: what has nothing to read parks its goroutine, and until it has read it sends nothing. Any
//! other read, and any receive, by the same goroutine ends it, so that no FIFO is named that was read long ago. Threads are no
//! actors here: nothing tells that one still works for the same stream.

use tracer_common::{Actor, Counter, FifoPairKey, FifoRelayed, Kind, LastKey, Reading};

use crate::{
    emit::reserve,
    joins::role_of,
    kernel::{sock::Sock, task::about_current},
    maps::{FIFO_PAIRS, READING, READS_WATCHED, count},
};

/// Whether reads are watched at all: an array is looked up in a few instructions, which is what everybody else pays.
#[inline(always)]
fn are_watched() -> bool {
    READS_WATCHED.get(0).is_some_and(|word| *word != 0)
}

/// That goroutine reads that FIFO from now on.
#[inline(always)]
pub fn note(key: &LastKey, actor: &Actor, device: u32, inode: u64) {
    let reading = Reading { goid: actor.goid, inode, device, reserved: 0 };
    match READING.get_ptr_mut(key) {
        // SAFETY: the entry is this goroutine's own, and the goroutine is here: nothing else writes it.
        Some(known) => unsafe { *known = reading },
        None if READING.insert(key, reading, 0).is_err() => {
            count(Counter::ReadingFull);
        }
        None => {}
    }
}

/// That actor received, or read something else.
#[inline(always)]
pub fn forget(key: &LastKey) {
    // Found before it is removed: a look takes no lock.
    if are_watched() && READING.get_ptr(key).is_some() {
        let _gone = READING.remove(key);
    }
}

/// That actor sent to `sock`: tells the FIFO that it read from last, once for each FIFO and socket.
#[inline(always)]
pub fn sent(key: &LastKey, actor: &Actor, sock: Sock, cookie: u64) {
    if !are_watched() || actor.goid == 0 {
        return;
    }
    // SAFETY: copied out at once; written by the goroutine that runs here.
    let Some(reading) = (unsafe { READING.get(key) }).copied() else { return };
    if reading.goid != actor.goid {
        return;
    }
    let pair = FifoPairKey { inode: reading.inode, to: cookie, device: reading.device, reserved: 0 };
    if FIFO_PAIRS.get_ptr(pair).is_some() {
        return;
    }
    // What did not fit is told at the next sighting.
    if tell(actor, &reading, sock, cookie) {
        let _full = FIFO_PAIRS.insert(pair, 1, 0);
    }
}

#[inline(always)]
fn tell(actor: &Actor, reading: &Reading, sock: Sock, cookie: u64) -> bool {
    let Some(mut entry) = reserve::<FifoRelayed>(Kind::FifoRelayed, about_current()) else { return false };
    // SAFETY: the place in the ring buffer is ours until it is submitted, and large enough.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.actor = *actor;
    record.fifo_inode = reading.inode;
    record.fifo_device = reading.device;
    record.reserved = 0;
    sock.describe(cookie, role_of(cookie), &mut record.to);
    entry.submit(0);
    true
}
