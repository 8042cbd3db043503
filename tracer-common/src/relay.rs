//! Actors inside a process: bytes moved from one socket to another, and FIFOs.

use crate::{Header, Socket, Text, header::record};

/// Longest FIFO path that is kept. containerd's, with two 64-digit ids, are about 210 bytes.
pub const FIFO_PATH_BYTES: usize = 384;

/// Bit of [`Relayed::how`]: splice(2) moved the bytes.
pub const HOW_SPLICE: u32 = 1;

/// The goroutine or thread that acted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// Address of the goroutine's `g`; 0 if the process is not Go. The header's thread is the actor then.
    pub g: u64,
    /// `g.goid`; 0 if its offset is unknown.
    pub goid: u64,
    /// `g.parentGoid` (Go ≥ 1.21); 0 if its offset is unknown.
    pub parent_goid: u64,
}
const _: () = assert!(size_of::<Actor>() == 24);

impl Actor {
    /// No actor.
    pub const NONE: Self = Self { g: 0, goid: 0, parent_goid: 0 };
    /// Valid goroutine ids. Go numbers goroutines from 1, which is `main`. An id beyond the range would take a month
    /// at 100,000 goroutines a second. A pointer, read through a wrong offset, is larger too: on every architecture
    /// the heap begins above the range (src/runtime/malloc.go: `arenaHints`).
    const GOIDS: core::ops::Range<u64> = 2..1 << 38;

    /// True if both ids are plausible and the creator is not `main`, which all long-lived goroutines share. The
    /// creator's id may be the larger one: each processor takes ids in batches (src/runtime/proc.go: `goidcache`). Of
    /// 2,000 goroutines, 137 had a smaller id than their creator.
    #[must_use]
    pub fn has_creator(&self) -> bool {
        Self::GOIDS.contains(&self.goid) && Self::GOIDS.contains(&self.parent_goid) && self.goid != self.parent_goid
    }
}

/// Key of the map of reported pairs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PairKey {
    /// Cookie of the socket received from.
    pub from: u64,
    /// Cookie of the socket sent to.
    pub to: u64,
}
const _: () = assert!(size_of::<PairKey>() == 16);

/// An actor received from one socket and then sent to another. Reported once per direction.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Relayed {
    /// See [`Header`].
    pub header: Header,
    /// The actor.
    pub actor: Actor,
    /// The socket received from.
    pub from: Socket,
    /// The socket sent to.
    pub to: Socket,
    /// `HOW_*` bits.
    pub how: u32,
    /// Zero.
    pub reserved: u32,
}
record!(Relayed = size_of::<Header>() + size_of::<Actor>() + 2 * size_of::<Socket>() + 8);

/// An actor made a FIFO (mknodat(2)).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fifo {
    /// See [`Header`].
    pub header: Header,
    /// The actor.
    pub actor: Actor,
    /// The socket on which the same actor received last; all zero for none.
    pub inbound: Socket,
    /// The path as passed to the call.
    pub path: Text<FIFO_PATH_BYTES>,
}
record!(Fifo = size_of::<Header>() + size_of::<Actor>() + size_of::<Socket>() + 8 + FIFO_PATH_BYTES);

/// Key of the map of reported creators. The value is the id of the first reported goroutine, or all ones once a
/// second one was reported. In the socket's own entry, without a creator, the value is the number of the socket's
/// creators.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TouchKey {
    /// `g.parentGoid` of the actor; 0 in the socket's own entry.
    pub parent_goid: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// The process.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<TouchKey>() == 24);

/// A goroutine with a known creator moved bytes on a TCP socket. Reported for the first two goroutines of each
/// creator and socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Touched {
    /// See [`Header`].
    pub header: Header,
    /// The actor.
    pub actor: Actor,
    /// The socket.
    pub socket: Socket,
}
record!(Touched = size_of::<Header>() + size_of::<Actor>() + size_of::<Socket>());

/// The FIFO that a goroutine reads, by [`crate::ActorKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The goroutine's id. A `g` is reused, an id is not.
    pub goid: u64,
    /// `inode.i_ino`
    pub inode: u64,
    /// `super_block.s_dev`: major << 20
    /// minor.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Reading>() == 24);

/// Key of the map of reported pairs of FIFO and socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FifoPairKey {
    /// `inode.i_ino` of the FIFO.
    pub inode: u64,
    /// Cookie of the socket sent to.
    pub to: u64,
    /// `super_block.s_dev` of the FIFO.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<FifoPairKey>() == 24);

/// A goroutine called read(2) on a FIFO and then sent to a socket. Reported once for each FIFO and socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FifoRelayed {
    /// See [`Header`].
    pub header: Header,
    /// The actor.
    pub actor: Actor,
    /// `inode.i_ino` of the FIFO.
    pub fifo_inode: u64,
    /// `super_block.s_dev` of the FIFO.
    pub fifo_device: u32,
    /// Zero.
    pub reserved: u32,
    /// The socket sent to.
    pub to: Socket,
}
record!(FifoRelayed = size_of::<Header>() + size_of::<Actor>() + 16 + size_of::<Socket>());
