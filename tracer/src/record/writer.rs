//! Writes recordings. Reads no clock: the engine reports the time.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::{
    format::{Header, Part},
    target::{Output, RecordTarget},
};
use crate::model::{BootTime, Fact, Observation, Source, Span};

/// Maximum of recorded time that a killed run loses. One zstd block per second costs little and keeps the file
/// readable.
const FLUSH_EVERY: Span = Span::from_secs(1);

/// Size of a recording, over all its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Observations, without those that a further file repeats.
    pub observations: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes one recording. A writer dropped without [`Writer::finish`] flushes as much as possible.
pub struct Writer {
    stream: Stream,
    line: Vec<u8>,
    flushed: Option<BootTime>,
    target: RecordTarget,
    header: Header,
    /// Start time of the current file, once known.
    begun: Option<BootTime>,
    /// Size of the current file after its header and repeated observations.
    base: u64,
    /// Observations so far, and the bytes of earlier files.
    written: Written,
}

enum Stream {
    Plain(BufWriter<Counted>),
    Zstd(Box<zstd::Encoder<'static, BufWriter<Counted>>>),
}

/// Counts the bytes that reach the file.
struct Counted {
    file: Box<dyn Output>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Stream {
    fn new(target: &mut RecordTarget) -> io::Result<Self> {
        let file = BufWriter::new(Counted { file: target.open()?, bytes: 0 });
        if target.zstd() {
            return Ok(Self::Zstd(Box::new(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?)));
        }
        Ok(Self::Plain(file))
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Plain(stream) => stream.get_ref().bytes,
            Self::Zstd(stream) => stream.get_ref().get_ref().bytes,
        }
    }

    /// Ends the compressed frame and flushes the file.
    fn end(&mut self) -> io::Result<()> {
        if let Self::Zstd(stream) = self {
            stream.do_finish()?;
            return stream.get_mut().flush();
        }
        self.flush()
    }
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
    /// Writes the header and flushes it. From here on the file is a recording.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(mut target: RecordTarget, header: &Header) -> io::Result<Self> {
        let stream = Stream::new(&mut target)?;
        let (header, line) = (header.clone(), Vec::new());
        let mut writer =
            Self { stream, line, flushed: None, target, header, begun: None, base: 0, written: Written::default() };
        writer.begin_file(&[])?;
        Ok(writer)
    }

    /// Writes the header and the repeated observations.
    fn begin_file(&mut self, told: &[Observation]) -> io::Result<()> {
        let part = self.target.number().map(|number| Part { number, told_again: told.len() as u64 });
        let header = Header { part, ..self.header.clone() };
        self.write_line(&header)?;
        for seen in told {
            self.write_line(seen)?;
        }
        self.stream.flush()?;
        self.base = self.stream.bytes();
        Ok(())
    }

    /// Writes one observation.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, seen: &Observation) -> io::Result<()> {
        self.written.observations += 1;
        self.write_line(seen)
    }

    /// Advances the time, and flushes once a second.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn tick(&mut self, now: BootTime) -> io::Result<()> {
        if self.flushed.is_some_and(|flushed| now.since(flushed) < FLUSH_EVERY) {
            return Ok(());
        }
        self.flushed = Some(now);
        self.begun = self.begun.or(Some(now));
        self.stream.flush()
    }

    /// True for a recording in parts.
    #[must_use]
    pub const fn is_in_parts(&self) -> bool {
        self.target.rotate().is_some()
    }

    /// True if the file has reached its size or age. Repeated observations at its beginning do not count: a host with
    /// many sessions would otherwise get a new file with each check.
    #[must_use]
    pub fn is_full(&self, now: BootTime) -> bool {
        let Some(rotate) = self.target.rotate() else { return false };
        let large = rotate.bytes.is_some_and(|most| self.stream.bytes() >= most.saturating_add(self.base));
        let old = rotate.age.zip(self.begun).is_some_and(|(most, begun)| now.since(begun) >= most);
        large || old
    }

    /// Ends the file and continues in the next one, which begins with the observations `repeated`.
    ///
    /// # Errors
    /// A file cannot be written, created or removed.
    pub fn go_on(&mut self, now: BootTime, repeated: &[Observation]) -> io::Result<()> {
        self.write_line(&Observation::new(now, Source::Engine, Fact::Continued))?;
        self.stream.end()?;
        self.written.bytes += self.stream.bytes();
        self.target.next()?;
        self.stream = Stream::new(&mut self.target)?;
        (self.begun, self.flushed) = (Some(now), Some(now));
        self.begin_file(repeated)
    }

    /// Ends the file. The last observation should be [`Fact::Stopped`]. Returns the size of the recording.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> io::Result<Written> {
        self.stream.end()?;
        self.written.bytes += self.stream.bytes();
        Ok(self.written)
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
        // An error cannot be reported from here; the reader will report a truncated file.
        drop(self.stream.flush());
    }
}
