//! Where a recording goes: a file, stdout, or files one after another.

use std::{
    error::Error,
    fmt,
    fs::{File, OpenOptions, Permissions},
    io::{self, IsTerminal, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use super::parts::{Rotate, Series};

/// Arguments can hold secrets: for the owner only.
const MODE: u32 = 0o600;

/// Where a recording goes: made before tracing starts, so that a mistake costs no trace.
#[derive(Debug)]
pub struct Place {
    /// Until it is taken.
    file: Option<Box<dyn Output>>,
    zstd: bool,
    parts: Option<Parts>,
}

/// Of a recording in parts.
#[derive(Debug)]
struct Parts {
    series: Series,
    rotate: Rotate,
    /// Of the file that is written.
    number: u64,
}

pub(super) trait Output: Write + Send + fmt::Debug {}
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
            return Ok(Self { file: Some(Box::new(stdout)), zstd: false, parts: None });
        }
        let file = match create_new(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => reuse(path)?,
            Err(error) => return Err(CreateError::Io(error)),
        };
        Ok(Self { file: Some(Box::new(file)), zstd: is_zstd(path), parts: None })
    }

    /// New files, `a.000001.jsonl` and so on for `a.jsonl`; where there are such, after the last of them.
    ///
    /// # Errors
    /// When `-` is given, or the first file cannot be made.
    pub fn create_parts(path: &Path, rotate: Rotate) -> Result<Self, CreateError> {
        if path == Path::new("-") {
            return Err(CreateError::Io(io::Error::other("stdout is one file")));
        }
        let series = Series::new(path).map_err(CreateError::Io)?;
        let number = series.numbers().map_err(CreateError::Io)?.last().map_or(1, |last| last + 1);
        let mut place = Self { file: None, zstd: is_zstd(path), parts: Some(Parts { series, rotate, number }) };
        place.make().map_err(CreateError::Io)?;
        Ok(place)
    }

    /// The file, once.
    pub(super) fn open(&mut self) -> io::Result<Box<dyn Output>> {
        self.file.take().ok_or_else(|| io::Error::other("the file was opened before"))
    }

    /// Makes the next file.
    pub(super) fn next(&mut self) -> io::Result<()> {
        if let Some(parts) = &mut self.parts {
            parts.number += 1;
        }
        self.make()
    }

    fn make(&mut self) -> io::Result<()> {
        let Some(Parts { series, rotate, number }) = &self.parts else { return Ok(()) };
        self.file = Some(Box::new(create_new(&series.path(*number))?));
        rotate.keep.map_or(Ok(()), |most| series.keep(most))
    }

    pub(super) const fn zstd(&self) -> bool {
        self.zstd
    }

    /// Which part is written.
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

fn is_zstd(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
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
