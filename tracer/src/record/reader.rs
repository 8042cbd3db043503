//! Reads recordings, including truncated, damaged and hostile ones. Never panics and never holds more than a line and a
//! zstd window.

use std::{
    collections::{BTreeSet, VecDeque},
    error::Error,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use memchr::memchr;
use serde::Deserialize;

use super::{
    bounds::{self, Ratio},
    format::{FORMAT, Header, MAX_LINE, ZSTD_MAGIC},
    line,
};
use crate::model::{Fact, Observation};

/// Largest zstd window, as a power of two: 8 MiB, the size that every decoder must accept (RFC 8878, 3.1.1.1.2). The
/// writer needs less; a hostile file could ask for gigabytes.
const MAX_WINDOW_LOG: u32 = 23;

/// Streams the observations of one recording, in one file or in parts.
pub struct Reader {
    stream: Box<dyn BufRead + Send>,
    header: Header,
    buffer: Vec<u8>,
    /// Number of lines read.
    line: u64,
    /// Number of bytes read, after decompression.
    offset: u64,
    /// Offset of the last line read.
    start: u64,
    /// Number of empty lines so far.
    empty: u64,
    /// Names of loss counters so far.
    losses: BTreeSet<String>,
    /// Counter of compressed bytes read; `None` for an uncompressed file.
    ratio: Option<Ratio>,
    last: Last,
    end: Option<End>,
    /// Current file; empty for a stream.
    path: PathBuf,
    /// Parts still to be read.
    rest: VecDeque<PathBuf>,
}

/// Consequence of the last observation for the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// More observations may follow.
    Any,
    /// The recording ends here.
    Stopped,
    /// The file ends here, and the recording continues in another file.
    Continued,
}

/// End of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The last record is present.
    Clean,
    /// The last record is missing: the writing run was killed, or the copy is incomplete.
    Cut {
        /// Number of readable lines, including the header.
        lines: u64,
    },
    /// The recording continues in a file that was not given.
    Continues {
        /// Number of the missing part.
        part: u64,
    },
    /// A line is not a valid record.
    Damaged(Damage),
}

/// Description of an invalid line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the line, from 1.
    pub line: u64,
    /// Offset of the line in the decompressed file, in bytes from 0.
    pub byte: u64,
    /// Reason.
    pub text: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {}): {}", self.line, self.byte, self.text)
    }
}

/// Reason for refusing a file as a whole.
#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is empty.
    Empty,
    /// The first line is not the header of a recording.
    NotARecording(String),
    /// The format is newer than this program.
    Newer {
        /// Version of the format.
        format: u64,
        /// Version of the writing program.
        by: String,
    },
    /// The file was given with others, but is not their next part.
    Apart(String),
    /// A merged recording cannot be merged again.
    Merged,
    /// The times of a recording to be merged are too far from those of the first one.
    TooFar,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => fmt::Display::fmt(error, f),
            Self::Empty => f.write_str("the file is empty"),
            Self::NotARecording(why) => write!(f, "not a recording of execpath: line 1: {why}"),
            Self::Newer { format, by } => {
                write!(f, "format {format}, written by execpath {by}; this execpath reads up to format {FORMAT}")
            }
            Self::Apart(why) => f.write_str(why),
            Self::Merged => f.write_str("the recording is already merged"),
            Self::TooFar => f.write_str("its times differ by more than 100 years from those of another recording"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Empty
            | Self::NotARecording(_)
            | Self::Newer { .. }
            | Self::Apart(_)
            | Self::Merged
            | Self::TooFar => None,
        }
    }
}

/// Fields common to the headers of all formats, past and future.
#[derive(Deserialize)]
struct Versions {
    execpath: String,
    format: u64,
}

/// Result of reading a line.
enum Line {
    /// The line is in the buffer, without its line end.
    Whole,
    /// The file ends inside the line.
    Unfinished,
    TooLong,
    None,
}

impl Reader {
    /// Opens a file; `-` is stdin.
    ///
    /// # Errors
    /// The file cannot be read, is not a recording, or has a newer format.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if path == Path::new("-") {
            return Self::new(Box::new(io::stdin()));
        }
        let reader = Self::new(Box::new(File::open(path).map_err(OpenError::Io)?))?;
        Ok(Self { path: path.to_owned(), ..reader })
    }

    /// Opens a recording: one file, or its consecutive parts in any order.
    ///
    /// # Errors
    /// The offending file and the reason.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self, (PathBuf, OpenError)> {
        let open = |path: &PathBuf| Self::open(path).map_err(|error| (path.clone(), error));
        if let [path] = paths {
            return open(path);
        }
        let mut parts = Vec::new();
        for path in paths {
            let header = open(path)?.header;
            let Some(part) = header.part else {
                let why = "it is a complete recording, not a part".to_owned();
                return Err((path.clone(), OpenError::Apart(why)));
            };
            parts.push((part.number, path, Header { part: None, ..header }));
        }
        parts.sort_by_key(|(number, ..)| *number);
        for pair in parts.windows(2) {
            let [(before, _, one), (number, path, other)] = pair else { continue };
            if *number != before + 1 {
                let why = format!("it is part {number}, but follows part {before}");
                return Err(((*path).clone(), OpenError::Apart(why)));
            }
            if one != other {
                let why = "it is a part of a different recording than the file before it".to_owned();
                return Err(((*path).clone(), OpenError::Apart(why)));
            }
        }
        let mut rest: VecDeque<PathBuf> = parts.iter().map(|(_, path, _)| (*path).clone()).collect();
        let first = rest.pop_front().unwrap_or_default();
        Ok(Self { rest, ..open(&first)? })
    }

    /// Continues with the next part, after its repeated observations.
    fn next_part(&mut self, path: &Path) -> Result<(), End> {
        let damaged = |line, byte, text: String| End::Damaged(Damage { line, byte, text });
        let rest = std::mem::take(&mut self.rest);
        let next = Self::open(path).map_err(|error| damaged(1, 0, error.to_string()));
        *self = Self { rest, ..next? };
        for _ in 0..self.header.part.map_or(0, |part| part.told_again) {
            match self.read_line() {
                Ok(Line::Whole) => self.check_line().map_err(|why| damaged(self.line, self.start, why))?,
                Ok(Line::TooLong) => return Err(damaged(self.line, self.offset, TOO_LONG.to_owned())),
                Ok(Line::Unfinished | Line::None) => return Err(End::Cut { lines: self.line }),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    /// Current file, for messages; empty for a stream.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a stream. The first bytes decide about compression, not the name.
    ///
    /// # Errors
    /// The stream cannot be read, is not a recording, or has a newer format.
    pub fn new(stream: Box<dyn Read + Send>) -> Result<Self, OpenError> {
        let mut stream = stream;
        let mut start = Vec::new();
        stream.by_ref().take(4).read_to_end(&mut start).map_err(OpenError::Io)?;
        let zstd = start == ZSTD_MAGIC;
        let ratio = zstd.then(Ratio::default);
        let whole = io::Cursor::new(start).chain(stream);
        let stream: Box<dyn BufRead + Send> = if let Some(ratio) = &ratio {
            let whole = BufReader::new(ratio.count(whole));
            let mut decoder = zstd::Decoder::with_buffer(whole).map_err(OpenError::Io)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(OpenError::Io)?;
            Box::new(BufReader::with_capacity(zstd::Decoder::<&[u8]>::recommended_output_size(), decoder))
        } else {
            Box::new(BufReader::new(whole))
        };
        let mut reader = Self {
            stream,
            header: Header::new(Default::default(), Default::default()),
            buffer: Vec::new(),
            line: 0,
            offset: 0,
            start: 0,
            empty: 0,
            losses: BTreeSet::new(),
            ratio,
            last: Last::Any,
            end: None,
            path: PathBuf::new(),
            rest: VecDeque::new(),
        };
        reader.header = reader.read_header()?;
        Ok(reader)
    }

    fn read_header(&mut self) -> Result<Header, OpenError> {
        let not = |why: &str| OpenError::NotARecording(why.to_owned());
        match self.read_line() {
            Ok(Line::Whole) => {}
            // A file without any line end was cut inside its header.
            Ok(Line::Unfinished) => return Err(not("it has no end")),
            Ok(Line::TooLong) => return Err(not("longer than 1 MiB")),
            Ok(Line::None) => return Err(OpenError::Empty),
            Err(error) if zstd_damage(&error) => return Err(not(&error.to_string())),
            Err(error) => return Err(OpenError::Io(error)),
        }
        // Check the version first: the layout of a newer header is unknown.
        let json = |error: serde_json::Error| not(&without_place(&error));
        let versions: Versions = serde_json::from_slice(&self.buffer).map_err(json)?;
        if versions.format > u64::from(FORMAT) {
            return Err(OpenError::Newer { format: versions.format, by: versions.execpath });
        }
        if versions.format == 0 {
            return Err(not("format 0 does not exist"));
        }
        serde_json::from_slice(&self.buffer).map_err(json)
    }

    /// First line of the recording.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// End of the recording; `None` while more observations may follow.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Ends the recording here as damaged, because its content exceeds a limit of the consumer. The first reason is
    /// kept.
    pub fn refuse(&mut self, why: &str) {
        if !matches!(self.end, Some(End::Damaged(_))) {
            let damage = Damage { line: self.line, byte: self.start, text: why.to_owned() };
            self.end = Some(End::Damaged(damage));
        }
    }

    fn read_line(&mut self) -> io::Result<Line> {
        self.buffer.clear();
        self.start = self.offset;
        loop {
            let ready = match self.stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                ready => ready?,
            };
            let room = MAX_LINE - self.buffer.len();
            let ready = ready.get(..room).unwrap_or(ready);
            let end = memchr(b'\n', ready);
            let used = end.map_or(ready.len(), |end| end + 1);
            self.buffer.extend_from_slice(ready.get(..used).unwrap_or_default());
            self.stream.consume(used);
            if used == 0 || end.is_some() {
                break;
            }
        }
        if self.buffer.is_empty() {
            return Ok(Line::None);
        }
        self.line += 1;
        self.offset += self.buffer.len() as u64;
        if self.buffer.pop_if(|byte| *byte == b'\n').is_some() {
            return Ok(Line::Whole);
        }
        Ok(if self.buffer.len() == MAX_LINE { Line::TooLong } else { Line::Unfinished })
    }

    fn read(&mut self) -> Result<Observation, End> {
        loop {
            let byte = self.offset;
            let damage = |line, text: String| End::Damaged(Damage { line, byte, text });
            match self.read_line() {
                Ok(Line::Whole) if self.buffer.iter().all(u8::is_ascii_whitespace) => {
                    self.empty += 1;
                    self.check_line().map_err(|why| damage(self.line, why))?;
                    continue;
                }
                Ok(Line::Whole) => self.check_line().map_err(|why| damage(self.line, why))?,
                Ok(Line::TooLong) => return Err(damage(self.line, TOO_LONG.to_owned())),
                Ok(Line::None) => {
                    self.ended()?;
                    continue;
                }
                Ok(Line::Unfinished) => return Err(End::Cut { lines: self.line - 1 }),
                Err(error) => return Err(self.failed(&error)),
            }
            if self.last != Last::Any {
                return Err(damage(self.line, "data after the last record".to_owned()));
            }
            let seen = parse(&self.buffer).map_err(|error| damage(self.line, without_place(&error)))?;
            bounds::observation(&seen, &mut self.losses).map_err(|why| damage(self.line, why))?;
            if seen.fact == Fact::Stopped {
                self.last = Last::Stopped;
            } else if seen.fact == Fact::Continued {
                self.last = Last::Continued;
            }
            if self.last != Last::Continued {
                return Ok(seen);
            }
        }
    }

    /// Checks the limits of a line before it is parsed.
    fn check_line(&self) -> Result<(), String> {
        bounds::empty_lines(self.empty)?;
        bounds::strings(&self.buffer)?;
        self.ratio.as_ref().map_or(Ok(()), |ratio| ratio.check(self.offset))?;
        bounds::memory(self.line)
    }

    /// Handles the end of a file: opens the next part, or returns the end of the recording.
    fn ended(&mut self) -> Result<(), End> {
        match self.last {
            Last::Stopped => Err(End::Clean),
            Last::Any => Err(End::Cut { lines: self.line }),
            Last::Continued => match self.rest.pop_front() {
                Some(path) => self.next_part(&path),
                None => Err(End::Continues { part: self.header.part.map_or(1, |part| part.number) + 1 }),
            },
        }
    }

    fn failed(&self, error: &io::Error) -> End {
        // An incomplete zstd frame: the writing run was killed.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return End::Cut { lines: self.line };
        }
        End::Damaged(Damage { line: self.line + 1, byte: self.offset, text: error.to_string() })
    }
}

/// Reason for refusing a line without an end.
const TOO_LONG: &str = "longer than 1 MiB";

/// Yields observations up to the end or the first damage; see [`Reader::end`].
impl Iterator for Reader {
    type Item = Observation;

    fn next(&mut self) -> Option<Observation> {
        if self.end.is_some() {
            return None;
        }
        self.read().map_err(|end| self.end = Some(end)).ok()
    }
}

/// Checks UTF-8 once per line, not for each string in it.
fn parse(line: &[u8]) -> serde_json::Result<Observation> {
    match std::str::from_utf8(line) {
        Ok(line) => line::parse(line).map_or_else(|| serde_json::from_str(line), Ok),
        Err(_) => serde_json::from_slice(line),
    }
}

/// Message without serde_json's line number, which counts inside the given line and would contradict ours.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = text.rfind(" at line ").unwrap_or(text.len());
    let column = error.column();
    let text = &text[..place];
    if column == 0 { text.to_owned() } else { format!("{text} (column {column})") }
}

/// True for errors of the decoder: only errors of files have an OS error number.
fn zstd_damage(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Actor, BootTime, ClockAnchor, HostFacts, Source, TaskKey},
        record::{CreateError, RecordTarget, Writer},
    };

    fn samples() -> Vec<Observation> {
        let task = TaskKey::from_ticks(7, 2);
        let mut all: Vec<Observation> = (1..5)
            .map(|at| {
                Observation::of(
                    BootTime(at * 1_000_000_000),
                    Source::Ebpf,
                    task,
                    Fact::Fork { child: TaskKey::from_ticks(8, at), actor: Actor::default(), inbound: None },
                )
            })
            .collect();
        all.push(Observation::new(BootTime(9_000_000_000), Source::Engine, Fact::Stopped));
        all
    }

    fn written(name: &str, finish: bool) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let header = Header::new(ClockAnchor::default(), HostFacts::default());
        let mut writer = Writer::begin(RecordTarget::create(&path).unwrap(), &header).unwrap();
        for seen in samples() {
            writer.write(&seen).unwrap();
            writer.tick(seen.at).unwrap();
        }
        if finish {
            writer.finish().unwrap();
        } else {
            drop(writer);
        }
        std::fs::read(path).unwrap()
    }

    fn read(bytes: Vec<u8>) -> Result<(Vec<Observation>, End), OpenError> {
        let mut reader = Reader::new(Box::new(io::Cursor::new(bytes)))?;
        let seen: Vec<Observation> = reader.by_ref().collect();
        assert!(reader.next().is_none());
        Ok((seen, reader.end().cloned().unwrap()))
    }

    #[test]
    fn written_observations_are_read_back() {
        for name in ["a.jsonl", "a.jsonl.zst"] {
            let bytes = written(name, true);
            assert_eq!(bytes.starts_with(&ZSTD_MAGIC), name.ends_with("zst"));
            assert_eq!(read(bytes).unwrap(), (samples(), End::Clean));
        }
    }

    #[test]
    fn truncated_recording_is_read_up_to_the_cut() {
        for name in ["a.jsonl", "a.jsonl.zst"] {
            let bytes = written(name, true);
            let mut longest = 0;
            for length in 0..bytes.len() {
                // Cut inside its header, the file is not a recording.
                let Ok((seen, end)) = read(bytes[..length].to_vec()) else { continue };
                assert_eq!(seen, samples()[..seen.len()]);
                if seen.len() < samples().len() {
                    assert!(
                        matches!(end, End::Cut { lines } if lines == seen.len() as u64 + 1),
                        "{name} {length} {end:?}"
                    );
                }
                longest = longest.max(seen.len());
            }
            assert!(longest >= samples().len() - 1, "{name} {longest}");
        }
        // A killed run leaves the zstd frame without an end.
        let (seen, end) = read(written("a.zst", false)).unwrap();
        assert_eq!((seen, end), (samples(), End::Cut { lines: 6 }));
    }

    #[test]
    fn damage_report_names_line_and_byte() {
        let mut bytes = written("a.jsonl", true);
        let lines: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
        let start = lines[1] + 1;
        bytes[start] = b'?';
        let (seen, end) = read(bytes).unwrap();
        assert_eq!(seen, samples()[..1]);
        let text = "expected value (column 1)".to_owned();
        assert_eq!(end, End::Damaged(Damage { line: 3, byte: start as u64, text }));
    }

    #[test]
    fn any_wrong_byte_is_read_without_panic() {
        for name in ["a.jsonl", "a.jsonl.zst"] {
            let bytes = written(name, true);
            for at in 0..bytes.len() {
                for flip in [0x01, 0x20, 0xff] {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= flip;
                    drop(read(bytes));
                }
            }
        }
    }

    #[test]
    fn endless_lines_and_deep_nesting_are_refused() {
        let header = serde_json::to_vec(&Header::new(ClockAnchor::default(), HostFacts::default())).unwrap();
        let with = |line: Vec<u8>| [header.clone(), b"\n".to_vec(), line].concat();
        let (seen, end) = read(with(vec![b' '; 3 * MAX_LINE])).unwrap();
        assert!(seen.is_empty());
        assert!(matches!(end, End::Damaged(damage) if damage.line == 2 && damage.text == "longer than 1 MiB"));
        let mut deep = b"[".repeat(100_000);
        deep.push(b'\n');
        assert!(matches!(read(with(deep)).unwrap().1, End::Damaged(_)));
        assert!(matches!(read(vec![b'{'; 3 * MAX_LINE]), Err(OpenError::NotARecording(_))));
    }

    #[test]
    fn foreign_files_and_newer_formats_are_refused() {
        let error = |text: &str| read(text.into()).unwrap_err().to_string();
        assert_eq!(error(""), "the file is empty");
        assert_eq!(error("hello\n"), "not a recording of execpath: line 1: expected value (column 1)");
        assert_eq!(
            error("{\"execpath\":\"9.1.0\",\"format\":7,\"new\":[]}\n"),
            "format 7, written by execpath 9.1.0; this execpath reads up to format 4"
        );
        assert!(error("{\"execpath\":\"0.1.0\",\"format\":0}\n").ends_with("format 0 does not exist"));
    }

    #[test]
    fn file_with_content_is_not_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "").unwrap();
        drop(RecordTarget::create(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(RecordTarget::create(&path), Err(CreateError::Exists)));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let fresh = folder.path().join("b.jsonl");
        drop(RecordTarget::create(&fresh).unwrap());
        assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
