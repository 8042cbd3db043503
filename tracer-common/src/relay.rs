//! Who moved bytes from which socket to which, and who made which FIFO: the joins inside a process.

use crate::{Header, Socket, Text, header::record};

/// Longest FIFO path that is kept. containerd's have two 64-digit ids and come to about 210 bytes.
pub const FIFO_PATH_BYTES: usize = 384;

/// Bit of [`Relayed::how`]: splice(2) moved the bytes.
pub const HOW_SPLICE: u32 = 1;
/// Bit of [`Relayed::how`] and [`Actor`] use: the process is not known to be Go, so the actor is a thread.
pub const HOW_THREAD: u32 = 2;

/// Who did it, inside a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// Address of the goroutine's `g`; 0 where the process is not Go (then the header's thread is the actor).
    pub g: u64,
    /// `g.goid`; 0 where its offset is not known.
    pub goid: u64,
    /// `g.parentGoid` (Go ≥ 1.21); 0 where its offset is not known.
    pub parent_goid: u64,
}
const _: () = assert!(size_of::<Actor>() == 24);

/// Key of the map of pairs already told.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PairKey {
    /// Cookie of the socket received from.
    pub from: u64,
    /// Cookie of the socket sent to.
    pub to: u64,
}
const _: () = assert!(size_of::<PairKey>() == 16);

/// An actor received from one socket and then sent to another: told once per direction.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Relayed {
    /// See [`Header`].
    pub header: Header,
    /// Who.
    pub actor: Actor,
    /// Received from.
    pub from: Socket,
    /// Sent to.
    pub to: Socket,
    /// How often this direction was seen, with this record.
    pub sightings: u32,
    /// `HOW_*` bits.
    pub how: u32,
}
record!(Relayed = size_of::<Header>() + size_of::<Actor>() + 2 * size_of::<Socket>() + 8);

/// A FIFO was made (mknodat(2)).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fifo {
    /// See [`Header`].
    pub header: Header,
    /// Who.
    pub actor: Actor,
    /// Cookie of the socket on which the same actor received last; 0: none.
    pub inbound_cookie: u64,
    /// Its inode.
    pub inbound_inode: u64,
    /// The path as it was given.
    pub path: Text<FIFO_PATH_BYTES>,
}
record!(Fifo = size_of::<Header>() + size_of::<Actor>() + 16 + 8 + FIFO_PATH_BYTES);
