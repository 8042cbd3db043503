//! Writes recordings. Reads no clock: the engine says when time has passed.

use std::{
    error::Error,
    fmt,
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use serde::Serialize;

use super::format::Header;
use crate::model::{BootTime, Observation, Span};

/// How much of a recording a killed run may lose. A zstd block a second costs little and keeps what was written readable.
const FLUSH_EVERY: Span = Span::from_secs(1);

/// Arguments can hold secrets: for the owner only.
const MODE: u32 = 0o600;

/// Where a recording goes: made before tracing starts, so that a mistake costs no trace.
#[derive(Debug)]
pub struct Place {
    file: Box<dyn Output>,
    zstd: bool,
}

trait Output: Write + Send + fmt::Debug {}
impl<T: Write + Send + fmt::Debug> Output for T {}

/// Why there is no place.
#[derive(Debug)]
pub enum CreateError {
    /// The file holds something.
    Exists,
    /// `-` is a terminal.
    Terminal,
    /// The file cannot be made.
    Io(io::Error),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("the file exists and is not empty"),
            Self::Terminal => f.write_str("stdout is a terminal"),
            Self::Io(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Exists | Self::Terminal => None,
        }
    }
}

impl Place {
    /// A new file, or one that is empty; `-` is stdout. A name that ends in `.zst` compresses.
    ///
    /// # Errors
    /// When the file holds something or cannot be made, or stdout is a terminal.
    pub fn create(path: &Path) -> Result<Self, CreateError> {
        if path == Path::new("-") {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(CreateError::Terminal);
            }
            return Ok(Self { file: Box::new(stdout), zstd: false });
        }
        let zstd = path.extension().is_some_and(|extension| extension == "zst");
        let file = match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => reuse(path)?,
            Err(error) => return Err(CreateError::Io(error)),
        };
        Ok(Self { file: Box::new(file), zstd })
    }
}

/// Takes a file that exists and holds nothing, or a pipe.
fn reuse(path: &Path) -> Result<File, CreateError> {
    let file = OpenOptions::new().append(true).open(path).map_err(CreateError::Io)?;
    // Asked of the open file, not of the path: it may have changed in between.
    let facts = file.metadata().map_err(CreateError::Io)?;
    if facts.len() > 0 {
        return Err(CreateError::Exists);
    }
    if facts.is_file() {
        file.set_permissions(Permissions::from_mode(MODE)).map_err(CreateError::Io)?;
    }
    Ok(file)
}

/// Writes one recording. Dropped without [`Writer::finish`], it flushes what it can.
pub struct Writer {
    stream: Stream,
    line: Vec<u8>,
    flushed: Option<BootTime>,
}

enum Stream {
    Plain(BufWriter<Box<dyn Output>>),
    Zstd(Box<zstd::Encoder<'static, BufWriter<Box<dyn Output>>>>),
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Zstd(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Zstd(stream) => stream.flush(),
        }
    }
}

impl Writer {
    /// Writes the header and flushes it: from here on the file is a recording.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(place: Place, header: &Header) -> io::Result<Self> {
        let file = BufWriter::new(place.file);
        let stream = if place.zstd {
            Stream::Zstd(Box::new(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?))
        } else {
            Stream::Plain(file)
        };
        let mut writer = Self { stream, line: Vec::new(), flushed: None };
        writer.write_line(header)?;
        writer.stream.flush()?;
        Ok(writer)
    }

    /// Writes one observation.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, seen: &Observation) -> io::Result<()> {
        self.write_line(seen)
    }

    /// Time has passed: flushes once a second.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tick(&mut self, now: BootTime) -> io::Result<()> {
        if self.flushed.is_some_and(|flushed| now.since(flushed) < FLUSH_EVERY) {
            return Ok(());
        }
        self.flushed = Some(now);
        self.stream.flush()
    }

    /// Ends the file. The last observation should be [`crate::model::Fact::Stopped`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        if let Stream::Zstd(stream) = &mut self.stream {
            stream.do_finish()?;
            return stream.get_mut().flush();
        }
        self.stream.flush()
    }

    fn write_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        self.stream.write_all(&self.line)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to tell; the reader will find the file cut.
        drop(self.stream.flush());
    }
}
