//! Reasons for an early end of the screen.

use std::io;

use crate::{follow::FollowError, live::LiveError};

/// Reason for an early end of the screen.
#[derive(Debug)]
pub enum WatchError {
    /// The terminal cannot be used.
    Terminal(io::Error),
    /// The trace could not start, or failed.
    Live(LiveError),
    /// The stream of a cluster cannot be followed.
    Follow(FollowError),
    /// The recording cannot be read again.
    Recording(String),
    /// The tracer's thread panicked.
    Panic,
}

impl From<io::Error> for WatchError {
    fn from(error: io::Error) -> Self {
        Self::Terminal(error)
    }
}
