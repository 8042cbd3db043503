//! Writes recordings. Reads no clock: the engine reports the time.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::{
    batches::Batches,
    format::{Header, Part},
    target::{Output, RecordTarget},
};
use crate::model::{BootTime, Fact, Observation, Source, Span};

/// Maximum of recorded time that a killed run loses. One zstd block per second costs little and keeps the file
/// readable.
const FLUSH_EVERY: Span = Span::from_secs(1);

/// Longest time that facts wait for their batch.
pub const BATCH_EVERY: Span = Span::from_millis(50);

/// Longest time without a batch on a host where nothing happens. A reader takes a host for silent after three times
/// this time.
const ALIVE_EVERY: Span = Span::from_secs(5);

/// Name of the loss of observations that a full queue refused.
pub const REFUSED: &str = "stream-full";

/// Size of a recording, over all its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Observations, without those that a further file repeats.
    pub observations: u64,
    /// Bytes of all files, or of all batches that were queued.
    pub bytes: u64,
    /// Observations that never reached the message stream, for a recording to one.
    pub undelivered: u64,
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
    Batches(Batches),
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
        if let Some(sink) = target.batches() {
            return Ok(Self::Batches(Batches::new(sink)));
        }
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
            Self::Batches(batches) => batches.bytes(),
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

impl Stream {
    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(line),
            Self::Zstd(stream) => stream.write_all(line),
            Self::Batches(batches) => batches.add(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Zstd(stream) => stream.flush(),
            Self::Batches(batches) => batches.flush(),
        }
    }

    /// Time between two flushes.
    const fn flush_every(&self) -> Span {
        match self {
            Self::Plain(_) | Self::Zstd(_) => FLUSH_EVERY,
            Self::Batches(batches) if batches.has_facts() => BATCH_EVERY,
            Self::Batches(_) => ALIVE_EVERY,
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
        let Stream::Batches(batches) = &mut self.stream else {
            self.written.observations += 1;
            return self.write_line(seen);
        };
        self.line.clear();
        serde_json::to_writer(&mut self.line, seen)?;
        self.line.push(b'\n');
        self.written.observations += u64::from(batches.observe(&self.line, seen.fact == Fact::Tick)?);
        Ok(())
    }

    /// Advances the time, and flushes: a file once a second, a message stream twenty times a second while facts come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn tick(&mut self, now: BootTime) -> io::Result<()> {
        if self.flushed.is_some_and(|flushed| now.since(flushed) < self.stream.flush_every()) {
            return Ok(());
        }
        self.flushed = Some(now);
        if self.begun.is_none() {
            self.begun = Some(now);
            // Of an earlier process.
            self.tell_refused(now)?;
        }
        self.stream.flush()
    }

    /// True if facts wait for their batch.
    #[must_use]
    pub const fn has_batch(&self) -> bool {
        matches!(&self.stream, Stream::Batches(batches) if batches.has_facts())
    }

    /// True for a recording in parts.
    #[must_use]
    pub const fn is_in_parts(&self) -> bool {
        self.target.rotate().is_some()
    }

    /// True if the file has reached its size or age. Repeated observations at its beginning do not count: a host with
    /// many sessions would otherwise get a new file with each check. A message stream that refused a batch begins a new
    /// part as soon as its queue has space.
    #[must_use]
    pub fn is_full(&self, now: BootTime) -> bool {
        let Some(rotate) = self.target.rotate() else { return false };
        if let Stream::Batches(batches) = &self.stream
            && batches.is_broken()
        {
            return batches.has_room();
        }
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
        self.target.next()?;
        (self.begun, self.flushed) = (Some(now), Some(now));
        let Stream::Batches(batches) = &mut self.stream else {
            self.written.bytes += self.stream.bytes();
            self.stream = Stream::new(&mut self.target)?;
            return self.begin_file(repeated);
        };
        batches.mend();
        self.begin_file(repeated)?;
        self.tell_refused(now)
    }

    /// Tells of the observations that a full queue refused, if the stream takes lines.
    fn tell_refused(&mut self, now: BootTime) -> io::Result<()> {
        let Stream::Batches(batches) = &mut self.stream else { return Ok(()) };
        let count = batches.untold();
        if count == 0 || batches.is_broken() {
            return Ok(());
        }
        tracing::warn!(observations = count, "the message stream was not reached for too long: not recorded");
        let lost = Observation::new(now, Source::Engine, Fact::Lost { what: REFUSED.to_owned(), count });
        self.line.clear();
        serde_json::to_writer(&mut self.line, &lost)?;
        self.line.push(b'\n');
        batches.add_untold(&self.line)
    }

    /// Observations of this recording that a full queue refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        match &self.stream {
            Stream::Batches(batches) => batches.refused(),
            Stream::Plain(_) | Stream::Zstd(_) => 0,
        }
    }

    /// Ends the file. The last observation should be [`Fact::Stopped`]. Returns the size of the recording. Waits a few
    /// seconds for the delivery to a message stream.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> io::Result<Written> {
        self.stream.end()?;
        self.written.bytes += self.stream.bytes();
        if let Stream::Batches(batches) = &mut self.stream {
            self.written.undelivered = batches.finish();
        }
        Ok(self.written)
    }

    fn write_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        self.stream.add(&self.line)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An error cannot be reported from here; the reader will report a truncated file.
        drop(self.stream.flush());
    }
}
