//! Files in Go's network poller, and the goroutines that wait for them.

/// Direction in which a goroutine waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// It waits for bytes to read.
    Reads,
    /// It waits for room to write: the other end has stopped reading.
    Writes,
}

/// A file in Go's poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Polled {
    pub(super) fd: u32,
    /// Address of the file's `runtime.pollDesc`.
    pub(super) poller: u64,
    pub(super) is_fifo: bool,
}

/// A parked goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Address of its `runtime.g`.
    pub(super) g: u64,
    pub(super) goid: u64,
    /// Id of the goroutine that started it (Go 1.21 and later).
    pub(super) parent_goid: Option<u64>,
    /// End of its stack.
    pub(super) top: u64,
    /// Stack pointer at which it was parked.
    pub(super) bottom: u64,
    /// Program counter at which it was parked.
    pub(super) pc: u64,
}
