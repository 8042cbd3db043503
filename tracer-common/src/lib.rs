//! What the BPF object and its loader both know: the records that cross the ring buffer, the values of shared maps, the
//! kernel offsets that the loader finds and the object uses.
//!
//! Everything here is `repr(C)`, integers only, without hidden padding; sizes are proved at compile time and kept in
//! `abi.lock`. Bytes from the kernel become enums only after a check, in `execpath::decode`.

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
pub use process::{ARGV_BYTES, Exit, Fork, Process};
pub use relay::{
    Actor, FIFO_PATH_BYTES, Fifo, FifoPairKey, FifoRelayed, HOW_SPLICE, HOW_THREAD, PairKey, Reading, Relayed,
    TouchKey, Touched,
};
pub use sock::{
    Accepted, Closed, Connected, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, Last, LastKey, Listening, ROLE_ACCEPTED,
    ROLE_CONNECTED, ROLE_LISTENING, ROLE_UNKNOWN, Socket, Tracked,
};
pub use text::Text;
pub use unix::{UNIX_PATH_BYTES, UnixAccepted, UnixConnected};
