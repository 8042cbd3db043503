//! Types shared by the BPF object and its loader: records of the ring buffer, values of maps, and the kernel offsets
//! that the loader finds for the object.
//!
//! All types are `repr(C)`, made of integers only, and without hidden padding. Sizes are checked at compile time and
//! kept in `abi.lock`. `execpath::decode` checks bytes from the kernel before it turns them into enums.

#![no_std]

mod control;
mod header;
mod open;
mod process;
mod relay;
mod sock;
mod text;
mod unix;

pub use control::{Config, Counter, Offsets, ReadinessError, Watch, WatchClass};
pub use header::{ABI, Header, Kind, Record};
pub use open::{OpenFile, OpenKind, OpenUnix};
pub use process::{
    ARGV_BYTES, ExecFailed, Exit, Fork, Process, SENT_BY_KERNEL, SENT_BY_PROCESS, SENT_FOR_MEMORY, Signalled,
};
pub use relay::{
    Actor, FIFO_PATH_BYTES, Fifo, FifoPairKey, FifoRelayed, HOW_SPLICE, PairKey, Reading, Relayed, TouchKey, Touched,
};
pub use sock::{
    ADDRESS_ID, Accepted, ActorKey, Closed, Connected, Dial, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, INODE_ID, Last,
    Listening, ROLE_ACCEPTED, ROLE_CONNECTED, ROLE_LISTENING, ROLE_UNKNOWN, Socket, Tracked, cookie_of,
};
pub use text::Text;
pub use unix::{UNIX_PATH_BYTES, UnixAccepted, UnixConnected};
