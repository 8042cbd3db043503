//! Target of a recording: a file, stdout, a series of files, or a message stream.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal, Write},
    path::Path,
};

use super::{
    batches::BatchSink,
    file::{CreateError, Existing, create, create_new},
    parts::{Rotate, Series},
};

/// Target of a recording. Opened before tracing starts, so that a mistake does not cost a trace.
#[derive(Debug)]
pub struct RecordTarget {
    /// Opened file, until the writer takes it.
    file: Option<Box<dyn Output>>,
    zstd: bool,
    parts: Option<Parts>,
    /// Sink of a message stream, until the writer takes it.
    batches: Option<Box<dyn BatchSink>>,
}

/// State of a recording in parts.
#[derive(Debug)]
struct Parts {
    /// Files of the parts; `None` for a message stream.
    series: Option<Series>,
    rotate: Rotate,
    /// Number of the current part.
    number: u64,
}

pub(super) trait Output: Write + Send + fmt::Debug {}
impl<T: Write + Send + fmt::Debug> Output for T {}

impl RecordTarget {
    /// Creates a file or takes an empty one; `-` is stdout. A name ending in `.zst` enables compression.
    ///
    /// # Errors
    /// The file has content or cannot be created, or stdout is a terminal.
    pub fn create(path: &Path) -> Result<Self, CreateError> {
        if path == Path::new("-") {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(CreateError::Terminal);
            }
            return Ok(Self { file: Some(Box::new(stdout)), zstd: false, parts: None, batches: None });
        }
        let file = create(path, Existing::Keep)?;
        Ok(Self { file: Some(Box::new(file)), zstd: is_zstd(path), parts: None, batches: None })
    }

    /// Creates a series of files, `a.000001.jsonl` and so on for `a.jsonl`. Continues after the last existing file.
    ///
    /// # Errors
    /// `-` is given, or the first file cannot be created.
    pub fn create_parts(path: &Path, rotate: Rotate) -> Result<Self, CreateError> {
        if path == Path::new("-") {
            return Err(CreateError::Io(io::Error::other("stdout is one file")));
        }
        let series = Series::new(path).map_err(CreateError::Io)?;
        let number = series.numbers().map_err(CreateError::Io)?.last().map_or(1, |last| last.saturating_add(1));
        let parts = Parts { series: Some(series), rotate, number };
        let mut target = Self { file: None, zstd: is_zstd(path), parts: Some(parts), batches: None };
        target.make().map_err(CreateError::Io)?;
        Ok(target)
    }

    /// A message stream. `rotate` tells when a part begins, at which a reader can start.
    #[must_use]
    pub fn of_batches(sink: Box<dyn BatchSink>, rotate: Rotate) -> Self {
        let parts = Parts { series: None, rotate, number: 1 };
        Self { file: None, zstd: true, parts: Some(parts), batches: Some(sink) }
    }

    /// A file that is open already.
    #[must_use]
    pub fn of_file(file: File, zstd: bool) -> Self {
        Self { file: Some(Box::new(file)), zstd, parts: None, batches: None }
    }

    /// Takes the opened file. Succeeds once per file.
    pub(super) fn open(&mut self) -> io::Result<Box<dyn Output>> {
        self.file.take().ok_or_else(|| io::Error::other("the file was opened before"))
    }

    /// Takes the sink of a message stream.
    pub(super) fn batches(&mut self) -> Option<Box<dyn BatchSink>> {
        self.batches.take()
    }

    /// Opens the next file of the series.
    pub(super) fn next(&mut self) -> io::Result<()> {
        if let Some(parts) = &mut self.parts {
            parts.number = parts.number.saturating_add(1);
        }
        self.make()
    }

    fn make(&mut self) -> io::Result<()> {
        let Some(Parts { series: Some(series), rotate, number }) = &self.parts else { return Ok(()) };
        self.file = Some(Box::new(create_new(&series.path(*number))?));
        rotate.keep.map_or(Ok(()), |most| series.keep(most))
    }

    /// Folder of a recording in parts, whose later files are still to be created.
    #[must_use]
    pub fn folder_of_parts(&self) -> Option<&Path> {
        self.parts.as_ref()?.series.as_ref().map(Series::folder)
    }

    pub(super) const fn zstd(&self) -> bool {
        self.zstd
    }

    /// Number of the current part; `None` for a recording in one file.
    pub(super) fn number(&self) -> Option<u64> {
        self.parts.as_ref().map(|parts| parts.number)
    }

    pub(super) const fn rotate(&self) -> Option<&Rotate> {
        match &self.parts {
            Some(parts) => Some(&parts.rotate),
            None => None,
        }
    }
}

/// True if a recording of this name is compressed.
#[must_use]
pub fn is_zstd(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}
