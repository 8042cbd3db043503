//! Pairs each FIFO that a goroutine reads with the socket it sends to, while reads are watched.
//!
//! The read is stored on entry of read(2): with nothing to read the goroutine parks, and sends nothing until the read
//! returns. Any other read, and any receive, by the same goroutine discards the entry, so that a read long ago is
//! never paired. Threads are no actors here: nothing shows that a thread still works for the same stream.

use tracer_common::{Actor, ActorKey, Counter, FifoPairKey, FifoRelayed, Kind, Reading};

use crate::{
    emit::send,
    kernel::{sock::Sock, task::about_current},
    maps::{FIFO_PAIRS, READING, READS_WATCHED, count},
    pairing::role_of,
};

/// True while reads are watched. The array lookup takes a few instructions, the only cost while they are not.
#[inline(always)]
fn are_watched() -> bool {
    READS_WATCHED.get(0).is_some_and(|word| *word != 0)
}

/// Stores the FIFO that this goroutine reads from now on.
#[inline(always)]
pub fn store(key: &ActorKey, actor: &Actor, device: u32, inode: u64) {
    let reading = Reading { goid: actor.goid, inode, device, reserved: 0 };
    match READING.get_ptr_mut(key) {
        // SAFETY: the entry belongs to the running goroutine: nothing else writes it.
        Some(known) => unsafe { *known = reading },
        None if READING.insert(key, reading, 0).is_err() => {
            count(Counter::ReadingFull);
        }
        None => {}
    }
}

/// Discards the entry after a receive or another read.
#[inline(always)]
pub fn forget(key: &ActorKey) {
    // Look up before the removal: a lookup takes no lock.
    if are_watched() && READING.get_ptr(key).is_some() {
        let _gone = READING.remove(key);
    }
}

/// Handles a send to `sock`: reports the FIFO that this actor read last, once for each FIFO and socket.
#[inline(always)]
pub fn sent(key: &ActorKey, actor: &Actor, sock: Sock, cookie: u64) {
    if !are_watched() || actor.goid == 0 {
        return;
    }
    // SAFETY: copied at once; written by the goroutine that runs here.
    let Some(reading) = (unsafe { READING.get(key) }).copied() else { return };
    if reading.goid != actor.goid {
        return;
    }
    let pair = FifoPairKey { inode: reading.inode, to: cookie, device: reading.device, reserved: 0 };
    if FIFO_PAIRS.get_ptr(pair).is_some() {
        return;
    }
    // On a full ring buffer, report the pair at the next send.
    if report(actor, &reading, sock, cookie) {
        let _full = FIFO_PAIRS.insert(pair, 1, 0);
    }
}

#[inline(always)]
fn report(actor: &Actor, reading: &Reading, sock: Sock, cookie: u64) -> bool {
    send!(Kind::FifoRelayed, about_current(), |record: &mut FifoRelayed| {
        record.actor = *actor;
        record.fifo_inode = reading.inode;
        record.fifo_device = reading.device;
        record.reserved = 0;
        sock.describe(cookie, role_of(sock, cookie), &mut record.to);
    })
    .is_some()
}
