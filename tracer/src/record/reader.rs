//! Reads recordings, also cut, damaged and hostile ones: never panics, never holds more than a line and a zstd window.

use std::{
    collections::{BTreeSet, VecDeque},
    error::Error,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    bounds::{self, Ratio},
    format::{FORMAT, Header, MAX_LINE, ZSTD_MAGIC},
};
use crate::model::{Fact, Observation};

/// Largest zstd window, as a power of two: 8 MiB, what every decoder must take (RFC 8878, 3.1.1.1.2). The writer needs less;
/// a hostile file could ask for gigabytes.
const MAX_WINDOW_LOG: u32 = 23;

/// Streams the observations of one recording, in one file or in parts.
pub struct Reader {
    stream: Box<dyn BufRead + Send>,
    header: Header,
    buffer: Vec<u8>,
    /// Lines read so far.
    line: u64,
    /// Bytes read so far, after decompression.
    offset: u64,
    /// Where the last line that was read begins.
    start: u64,
    /// Lines so far that hold nothing.
    empty: u64,
    /// Names of losses so far.
    losses: BTreeSet<String>,
    /// Bytes of the compressed file that were read so far; `None` where it is not compressed.
    ratio: Option<Ratio>,
    last: Last,
    end: Option<End>,
    /// The file that is read; empty for a stream.
    path: PathBuf,
    /// Parts that follow.
    rest: VecDeque<PathBuf>,
}

/// What the observation that was read last says of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// It goes on.
    Any,
    /// The recording ends.
    Stopped,
    /// The file ends, and the recording goes on in another.
    Continued,
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last record.
    Clean,
    /// Without one: the run that wrote it was killed, or the file was not copied whole.
    Cut {
        /// Lines that could be read, the header among them.
        lines: u64,
    },
    /// With the word that it goes on in another file, which was not given.
    Continues {
        /// Number of that part.
        part: u64,
    },
    /// With something that is no record.
    Damaged(Damage),
}

/// Something in a recording that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Line, from 1.
    pub line: u64,
    /// Where that line begins, in bytes of the decompressed file, from 0.
    pub byte: u64,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {}): {}", self.line, self.byte, self.text)
    }
}

/// Why a file is not read at all.
#[derive(Debug)]
pub enum OpenError {
    /// It cannot be read.
    Io(io::Error),
    /// It holds nothing.
    Empty,
    /// Its first line is not the header of a recording.
    NotARecording(String),
    /// Its format is newer than this program.
    Newer {
        /// Number of its format.
        format: u64,
        /// Version of the program that wrote it.
        by: String,
    },
    /// It is given with others, and is not the part that follows them.
    Apart(String),
    /// It is to be merged, and is of several hosts already.
    Merged,
    /// It is to be merged, and its times are too far from those of the first one.
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
            Self::Merged => f.write_str("it is merged already"),
            Self::TooFar => f.write_str("its times are more than 100 years from those of another recording"),
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

/// What every format has had and will have.
#[derive(Deserialize)]
struct Versions {
    execpath: String,
    format: u64,
}

/// What a line turned out to be.
enum Line {
    /// In the buffer, without its end.
    Whole,
    /// The file ends inside it.
    Unfinished,
    TooLong,
    None,
}

impl Reader {
    /// Opens a file; `-` is stdin.
    ///
    /// # Errors
    /// When it cannot be read, is no recording or a newer one.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if path == Path::new("-") {
            return Self::new(Box::new(io::stdin()));
        }
        let reader = Self::new(Box::new(File::open(path).map_err(OpenError::Io)?))?;
        Ok(Self { path: path.to_owned(), ..reader })
    }

    /// Opens a recording: one file, or its parts, in any order, of which none may be missing between two others.
    ///
    /// # Errors
    /// The file at fault, and why.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self, (PathBuf, OpenError)> {
        let open = |path: &PathBuf| Self::open(path).map_err(|error| (path.clone(), error));
        if let [path] = paths {
            return open(path);
        }
        let mut parts = Vec::new();
        for path in paths {
            let header = open(path)?.header;
            let Some(part) = header.part else {
                let why = "it is a recording by itself, and others are given, too".to_owned();
                return Err((path.clone(), OpenError::Apart(why)));
            };
            parts.push((part.number, path, Header { part: None, ..header }));
        }
        parts.sort_by_key(|(number, ..)| *number);
        for pair in parts.windows(2) {
            let [(before, _, one), (number, path, other)] = pair else { continue };
            if *number != before + 1 {
                let why = format!("it is part {number}, and the one before it that is given is part {before}");
                return Err(((*path).clone(), OpenError::Apart(why)));
            }
            if one != other {
                let why = "it is a part of another recording than the one before it".to_owned();
                return Err(((*path).clone(), OpenError::Apart(why)));
            }
        }
        let mut rest: VecDeque<PathBuf> = parts.iter().map(|(_, path, _)| (*path).clone()).collect();
        let first = rest.pop_front().unwrap_or_default();
        Ok(Self { rest, ..open(&first)? })
    }

    /// Goes on with the next part, behind what it tells again.
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

    /// The file that is read, for messages; empty for a stream.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a stream. Compression is found by its first bytes, not by a name.
    ///
    /// # Errors
    /// When it cannot be read, is no recording or a newer one.
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
            // A file without a single line end was cut in its header.
            Ok(Line::Unfinished) => return Err(not("it has no end")),
            Ok(Line::TooLong) => return Err(not("it is longer than 1 MiB")),
            Ok(Line::None) => return Err(OpenError::Empty),
            Err(error) if zstd_damage(&error) => return Err(not(&error.to_string())),
            Err(error) => return Err(OpenError::Io(error)),
        }
        // The version first: what a newer header looks like is not known.
        let json = |error: serde_json::Error| not(&without_place(&error));
        let versions: Versions = serde_json::from_slice(&self.buffer).map_err(json)?;
        if versions.format > u64::from(FORMAT) {
            return Err(OpenError::Newer { format: versions.format, by: versions.execpath });
        }
        if versions.format == 0 {
            return Err(not("there is no format 0"));
        }
        serde_json::from_slice(&self.buffer).map_err(json)
    }

    /// The first line.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended; `None` while there may be more.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Ends the recording here, as damaged: what it leads to takes more than whoever reads it may use. The first word counts.
    pub fn refuse(&mut self, why: &str) {
        if !matches!(self.end, Some(End::Damaged(_))) {
            let damage = Damage { line: self.line, byte: self.start, text: why.to_owned() };
            self.end = Some(End::Damaged(damage));
        }
    }

    fn read_line(&mut self) -> io::Result<Line> {
        self.buffer.clear();
        self.start = self.offset;
        let limit = MAX_LINE as u64;
        let length = self.stream.by_ref().take(limit).read_until(b'\n', &mut self.buffer)?;
        if length == 0 {
            return Ok(Line::None);
        }
        self.line += 1;
        self.offset += length as u64;
        if self.buffer.pop_if(|byte| *byte == b'\n').is_some() {
            return Ok(Line::Whole);
        }
        Ok(if length == MAX_LINE { Line::TooLong } else { Line::Unfinished })
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
                return Err(damage(self.line, "something follows the last record".to_owned()));
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

    /// Refuses what no writer writes, before it is parsed.
    fn check_line(&self) -> Result<(), String> {
        bounds::empty_lines(self.empty)?;
        bounds::strings(&self.buffer)?;
        self.ratio.as_ref().map_or(Ok(()), |ratio| ratio.check(self.offset))?;
        bounds::memory(self.line)
    }

    /// The file has ended: goes on with the next one, or tells how the recording ends.
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
        // A zstd frame without its end: the run was killed.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return End::Cut { lines: self.line };
        }
        End::Damaged(Damage { line: self.line + 1, byte: self.offset, text: error.to_string() })
    }
}

/// What is wrong with a line that has no end.
const TOO_LONG: &str = "longer than 1 MiB";

/// Observations, up to the end or the first damage: [`Reader::end`] tells which.
impl Iterator for Reader {
    type Item = Observation;

    fn next(&mut self) -> Option<Observation> {
        if self.end.is_some() {
            return None;
        }
        self.read().map_err(|end| self.end = Some(end)).ok()
    }
}

/// Whether a line is UTF-8 is asked once, not for each string in it.
fn parse(line: &[u8]) -> serde_json::Result<Observation> {
    std::str::from_utf8(line).map_or_else(|_| serde_json::from_slice(line), serde_json::from_str)
}

/// serde_json counts lines inside the one that it was given: that number would contradict ours.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = text.rfind(" at line ").unwrap_or(text.len());
    let column = error.column();
    let text = &text[..place];
    if column == 0 { text.to_owned() } else { format!("{text} (column {column})") }
}

/// Errors of the decoder have no kind of their own; those of files come with a number.
fn zstd_damage(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Actor, BootTime, ClockAnchor, HostFacts, Source, TaskKey},
        record::{CreateError, Place, Writer},
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
        let mut writer = Writer::begin(Place::create(&path).unwrap(), &header).unwrap();
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
    fn what_was_written_is_read_back() {
        for name in ["a.jsonl", "a.jsonl.zst"] {
            let bytes = written(name, true);
            assert_eq!(bytes.starts_with(&ZSTD_MAGIC), name.ends_with("zst"));
            assert_eq!(read(bytes).unwrap(), (samples(), End::Clean));
        }
    }

    #[test]
    fn a_recording_cut_anywhere_is_read_up_to_the_cut() {
        for name in ["a.jsonl", "a.jsonl.zst"] {
            let bytes = written(name, true);
            let mut longest = 0;
            for length in 0..bytes.len() {
                // Cut in its header it is none.
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
        // Killed: nothing ended the zstd frame.
        let (seen, end) = read(written("a.zst", false)).unwrap();
        assert_eq!((seen, end), (samples(), End::Cut { lines: 6 }));
    }

    #[test]
    fn damage_is_named_with_line_and_byte_and_what_precedes_it_is_read() {
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
    fn any_byte_may_be_wrong_and_nothing_panics() {
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
    fn lines_without_end_and_deep_nesting_are_refused() {
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
    fn strangers_and_newer_formats_are_refused() {
        let error = |text: &str| read(text.into()).unwrap_err().to_string();
        assert_eq!(error(""), "the file is empty");
        assert_eq!(error("hello\n"), "not a recording of execpath: line 1: expected value (column 1)");
        assert_eq!(
            error("{\"execpath\":\"9.1.0\",\"format\":7,\"new\":[]}\n"),
            "format 7, written by execpath 9.1.0; this execpath reads up to format 4"
        );
        assert!(error("{\"execpath\":\"0.1.0\",\"format\":0}\n").ends_with("there is no format 0"));
    }

    #[test]
    fn a_file_with_something_in_it_is_not_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "").unwrap();
        drop(Place::create(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(Place::create(&path), Err(CreateError::Exists)));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let fresh = folder.path().join("b.jsonl");
        drop(Place::create(&fresh).unwrap());
        assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
