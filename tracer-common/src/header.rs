//! The header of every record, and the numbers of the kinds.

/// Raised with every change of a record's layout. The loader rejects an object with another number.
pub const ABI: u16 = 12;

/// First field of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// One of [`Kind`].
    pub kind: u16,
    /// [`ABI`] of the object that wrote the record.
    pub abi: u16,
    /// The CPU that wrote the record.
    pub cpu: u32,
    /// Sequence number on this CPU. Lost records are numbered too, so a hole is a loss.
    pub seq: u64,
    /// Time of the event, in nanoseconds since boot (CLOCK_BOOTTIME).
    pub at_ns: u64,
    /// Process of the event, in the initial pid namespace.
    pub tgid: u32,
    /// Thread of the event; 0 if no thread of the process caused it (softirq).
    pub tid: u32,
    /// `group_leader->start_boottime` of the process, in nanoseconds.
    pub start_ns: u64,
}

/// Kind of a record. Numbers are never reused. Ranges: 1.. process, 32.. tcp, 64.. unix, 96.. pairing.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`crate::Fork`]
    Fork = 1,
    /// [`crate::Process`], at an execve
    Exec = 2,
    /// [`crate::Exit`]
    Exit = 3,
    /// [`crate::Process`], when a running process was added to the path
    Enrolled = 4,
    /// [`crate::ExecFailed`]
    ExecFailed = 5,
    /// [`crate::Signalled`]
    Signalled = 6,
    /// [`crate::Connected`]
    Connected = 32,
    /// [`crate::Accepted`]
    Accepted = 33,
    /// [`crate::Closed`]
    Closed = 34,
    /// [`crate::Listening`]
    Listening = 35,
    /// [`crate::Dial`], when connect(2) sent its SYN
    Dialling = 36,
    /// [`crate::Dial`], when connect(2) failed
    DialFailed = 37,
    /// [`crate::UnixConnected`]
    UnixConnected = 64,
    /// [`crate::UnixAccepted`]
    UnixAccepted = 65,
    /// [`crate::Relayed`]
    Relayed = 96,
    /// [`crate::Fifo`]
    Fifo = 97,
    /// [`crate::Touched`]
    Touched = 98,
    /// [`crate::FifoRelayed`]
    FifoRelayed = 99,
}

impl Kind {
    /// Every kind, for the decoder and its tests.
    pub const ALL: [Self; 18] = [
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::Enrolled,
        Self::ExecFailed,
        Self::Signalled,
        Self::Connected,
        Self::Accepted,
        Self::Closed,
        Self::Listening,
        Self::Dialling,
        Self::DialFailed,
        Self::UnixConnected,
        Self::UnixAccepted,
        Self::Relayed,
        Self::Fifo,
        Self::Touched,
        Self::FifoRelayed,
    ];

    /// The kind with this number, if one exists.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// A record that may be read from bytes.
///
/// # Safety
/// The type is `repr(C)` with [`Header`] first and no padding. Every bit pattern is valid: no `bool`, no `enum`, no
/// reference.
pub unsafe trait Record: Copy {}

/// Implements [`Record`] and checks the size, so that no padding can creep in.
macro_rules! record {
    ($name:ident = $size:expr) => {
        const _: () = assert!(size_of::<$name>() == $size);
        // SAFETY: repr(C) integers and arrays of them; the assertion above proves that there is no padding.
        unsafe impl crate::Record for $name {}
    };
}
pub(crate) use record;

record!(Header = 2 + 2 + 4 + 8 + 8 + 4 + 4 + 8);
