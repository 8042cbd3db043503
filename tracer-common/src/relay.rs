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

impl Actor {
    /// Nobody.
    pub const NONE: Self = Self { g: 0, goid: 0, parent_goid: 0 };
    /// Go numbers goroutines from 1, `main`. A number so large is none: it would take a month at 100,000 a second, and on
    /// every architecture the heap, where a wrong offset would find a pointer, begins no lower (src/runtime/malloc.go:
    /// `arenaHints`).
    const GOIDS: core::ops::Range<u64> = 2..1 << 38;

    /// Whether both ids look like what they should be, and the creator is not `main`, which every long-lived goroutine
    /// shares. That the creator's id is the smaller one is not asked for: ids are given out in batches to each processor
    /// (src/runtime/proc.go: `goidcache`); of 2,000 goroutines, 137 were seen to have a smaller one than their creator.
    #[must_use]
    pub fn has_creator(&self) -> bool {
        Self::GOIDS.contains(&self.goid) && Self::GOIDS.contains(&self.parent_goid) && self.goid != self.parent_goid
    }
}

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
    /// The socket on which the same actor received last; all zero: none.
    pub inbound: Socket,
    /// The path as it was given.
    pub path: Text<FIFO_PATH_BYTES>,
}
record!(Fifo = size_of::<Header>() + size_of::<Actor>() + size_of::<Socket>() + 8 + FIFO_PATH_BYTES);

/// Key of the map of what was told of creators. Value: the id of the goroutine that was told of, all ones once a second one
/// was; with no creator, the number of the socket's creators.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TouchKey {
    /// `g.parentGoid` of who moved bytes; 0 for the socket's own entry.
    pub parent_goid: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// The process.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<TouchKey>() == 24);

/// A goroutine whose creator is known moved bytes on a TCP socket: told of the first two goroutines
/// of each creator and socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Touched {
    /// See [`Header`].
    pub header: Header,
    /// Who.
    pub actor: Actor,
    /// On which.
    pub socket: Socket,
}
record!(Touched = size_of::<Header>() + size_of::<Actor>() + size_of::<Socket>());

/// The FIFO that a goroutine reads, by [`crate::LastKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The goroutine's id: a `g` is reused, an id is not.
    pub goid: u64,
    /// `inode.i_ino`
    pub inode: u64,
    /// `super_block.s_dev`: major << 20 | minor.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Reading>() == 24);

/// Key of the map of FIFOs and sockets already told.
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

/// A goroutine called read(2) on a FIFO and then sent to a socket: told once for each FIFO and socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FifoRelayed {
    /// See [`Header`].
    pub header: Header,
    /// Who.
    pub actor: Actor,
    /// `inode.i_ino` of the FIFO.
    pub fifo_inode: u64,
    /// `super_block.s_dev` of the FIFO.
    pub fifo_device: u32,
    /// Zero.
    pub reserved: u32,
    /// Sent to.
    pub to: Socket,
}
record!(FifoRelayed = size_of::<Header>() + size_of::<Actor>() + 16 + size_of::<Socket>());
