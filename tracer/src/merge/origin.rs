//! Where a recording to be merged comes from.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::record::{OpenError, Reader};

/// The offending file or host, and the reason.
pub type Fault = (PathBuf, OpenError);

/// A recording that can be read several times.
#[derive(Clone, Debug)]
pub enum Origin {
    /// One file, or the parts of one recording.
    Files(Vec<PathBuf>),
    /// The recording of a host in a message stream.
    Stream(FromStream),
}

/// The recording of a host in a message stream.
#[derive(Clone, Debug)]
pub struct FromStream {
    /// Host that published it.
    pub host: String,
    /// The recording, compressed or not.
    pub bytes: Arc<[u8]>,
    /// UTC at which the server stored the last message, in nanoseconds.
    pub stored_ns: u64,
}

impl Origin {
    pub(super) fn open(&self) -> Result<Reader, Fault> {
        match self {
            Self::Files(files) => Reader::open_all(files),
            Self::Stream(stream) => {
                let bytes = io::Cursor::new(Arc::clone(&stream.bytes));
                Reader::new(Box::new(bytes)).map_err(|error| (self.name().to_owned(), error))
            }
        }
    }

    /// The last file, or the host.
    #[must_use]
    pub fn name(&self) -> &Path {
        match self {
            Self::Files(files) => files.last().map(PathBuf::as_path).unwrap_or(Path::new("")),
            Self::Stream(stream) => Path::new(&stream.host),
        }
    }

    pub(super) fn too_far(&self) -> Fault {
        let first = match self {
            Self::Files(files) => files.first().cloned(),
            Self::Stream(_) => None,
        };
        (first.unwrap_or_else(|| self.name().to_owned()), OpenError::TooFar)
    }
}
