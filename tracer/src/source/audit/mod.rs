//! Follows the API server's audit log as it grows. The first read takes the end of the file, for sessions that are older than the
//! tracer.
//!
//! The log is polled; every read and every line is bounded. After a rotation the old file is read to its end first. After a
//! truncation reading begins again at the start. Lines about other requests are not parsed.

mod parse;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use regex::bytes::Regex;

pub use self::parse::event;
use crate::model::{AuditEvent, BootTime, ClockAnchor, Fact, Span};

/// Bytes at the end of the log that the first read takes: some 50,000 lines of Metadata level.
const TAIL: u64 = 64 << 20;
/// Longest line that is parsed. A request may have 1 MiB of headers with its line; requests of users have some 2 KB.
const MAX_LINE: usize = 256 << 10;
/// Bytes of one read.
const CHUNK: usize = 64 << 10;
/// Bytes of one poll. The next poll takes the rest.
const MAX_READ: usize = 8 << 20;
/// Requests older than the tracer that may still be under way.
const MAX_OLDER: usize = 4_000;
/// Age of a finished request that may still belong to a session of the snapshot, which was taken a moment earlier.
const JUST_OVER: Span = Span::from_secs(1);
/// Change of the clock anchor that is adopted, in nanoseconds. Smaller changes are jitter: all stages of a request need one anchor.
const STEP_NS: u64 = 10_000_000;
/// O_NONBLOCK (include/uapi/asm-generic/fcntl.h): without it, opening a FIFO waits for a writer.
const NONBLOCK: i32 = 0o4000;

/// An audit log that is followed.
pub struct AuditLog {
    path: PathBuf,
    file: File,
    /// Number of bytes read so far.
    position: u64,
    line: Vec<u8>,
    /// Set while the current line is longer than [`MAX_LINE`]: the rest of the line is left out.
    too_long: bool,
    /// Lines about sessions that were left out since the last report.
    skipped: u64,
    /// Converts the log's times. `None` until [`AuditLog::begin`].
    anchor: Option<ClockAnchor>,
    /// Matches lines about sessions.
    relevant: Regex,
    buffer: Vec<u8>,
}

impl AuditLog {
    /// Opens a log without reading it.
    ///
    /// # Errors
    /// When the log cannot be read, or is no regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let relevant = Regex::new(
            r#""subresource":"(exec|attach|portforward)"|/pods/[^"/?]{1,300}/(exec|attach|portforward)[?"]"#,
        )
        .map_err(io::Error::other)?;
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            position: 0,
            line: Vec::new(),
            too_long: false,
            skipped: 0,
            anchor: None,
            relevant,
            buffer: vec![0; CHUNK],
        })
    }

    /// Reads the end of the log: requests that may belong to open sessions. `now` must be read after the snapshot was taken.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn begin(&mut self, now: BootTime, anchor: ClockAnchor) -> io::Result<Vec<Fact>> {
        self.anchor = Some(anchor);
        let end = self.file.metadata()?.len();
        let start = end.saturating_sub(TAIL);
        self.position = start;
        let mut known: BTreeMap<(BootTime, String, String), AuditEvent> = BTreeMap::new();
        // Reading may begin in the middle of a line.
        let mut whole = start == 0;
        while self.position < end {
            let most = usize::try_from(end - self.position).unwrap_or(CHUNK).min(CHUNK);
            let mut found = Vec::new();
            if !self.read(most, &mut whole, &mut found)? {
                break;
            }
            for event in found {
                let key = (event.received, event.id.clone(), event.user.name.clone());
                let over = event.over.then_some(event.written);
                if over.is_some_and(|over| over.plus(JUST_OVER) < now) {
                    known.remove(&key);
                    continue;
                }
                let (code, over) = (event.code, event.over);
                let event = known.entry(key).or_insert(AuditEvent { older: true, ..event });
                event.code = code.or(event.code);
                event.over |= over;
                if known.len() > MAX_OLDER {
                    known.pop_first();
                    self.skipped += 1;
                }
            }
        }
        let mut facts: Vec<Fact> = known.into_values().map(|event| Fact::Audited(Box::new(event))).collect();
        facts.extend(self.report_skipped());
        facts.push(Fact::AuditFollowed);
        Ok(facts)
    }

    /// Reads the lines that were added since the last call. Empty if the log can no longer be read, and before
    /// [`AuditLog::begin`]: that alone marks the requests that may belong to older sessions.
    pub fn poll(&mut self, anchor: ClockAnchor) -> Vec<Fact> {
        let Some(known) = self.anchor else { return Vec::new() };
        if known.boot_to_utc_ns.abs_diff(anchor.boot_to_utc_ns) > STEP_NS {
            self.anchor = Some(anchor);
        }
        let mut events = Vec::new();
        if let Err(error) = self.follow(&mut events) {
            tracing::debug!(%error, "the audit log cannot be read");
        }
        let mut facts: Vec<Fact> = events.into_iter().map(|event| Fact::Audited(Box::new(event))).collect();
        facts.extend(self.report_skipped());
        facts
    }

    fn report_skipped(&mut self) -> Option<Fact> {
        let count = std::mem::take(&mut self.skipped);
        (count > 0).then_some(Fact::AuditSkipped { count })
    }

    fn follow(&mut self, events: &mut Vec<AuditEvent>) -> io::Result<()> {
        let own = self.file.metadata()?;
        if own.len() < self.position {
            self.drop_line();
            self.position = 0;
        }
        let before = self.position;
        while self.position - before < MAX_READ as u64 {
            if !self.read(CHUNK, &mut true, events)? {
                return self.follow_rotation((own.dev(), own.ino()), events);
            }
        }
        Ok(())
    }

    /// Goes on to the new file if the log was rotated. The old file was read to its end.
    fn follow_rotation(&mut self, own: (u64, u64), events: &mut Vec<AuditEvent>) -> io::Result<()> {
        // During a rotation no file has the name for a moment.
        let Ok(named) = fs::metadata(&self.path) else { return Ok(()) };
        if (named.dev(), named.ino()) == own {
            return Ok(());
        }
        let next = open(&self.path)?;
        // Take in lines written between the last read and the rotation.
        while self.read(CHUNK, &mut true, events)? {}
        self.drop_line();
        self.file = next;
        self.position = 0;
        Ok(())
    }

    /// Drops the current line, whose rest will never come.
    fn drop_line(&mut self) {
        if !self.too_long && self.relevant.is_match(&self.line) {
            self.skipped += 1;
        }
        self.line.clear();
        self.too_long = false;
    }

    /// Reads at most `most` bytes; returns false at the end of the file. `whole` is true if the bytes begin at the start of a line.
    fn read(&mut self, most: usize, whole: &mut bool, events: &mut Vec<AuditEvent>) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.file.seek(SeekFrom::Start(self.position))?;
        let read = self.file.read(buffer.get_mut(..most).unwrap_or_default());
        if let Ok(read) = read {
            self.position += read as u64;
            let mut bytes = buffer.get(..read).unwrap_or_default();
            if !*whole {
                let start = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                *whole = start.is_some();
                bytes = bytes.get(start.unwrap_or(bytes.len())..).unwrap_or_default();
            }
            self.feed(bytes, events);
        }
        self.buffer = buffer;
        read.map(|read| read > 0)
    }

    /// Splits bytes into lines.
    fn feed(&mut self, mut bytes: &[u8], events: &mut Vec<AuditEvent>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (piece, rest) = bytes.split_at(end);
            self.extend(piece);
            self.end_of_line(events);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.extend(bytes);
    }

    fn extend(&mut self, piece: &[u8]) {
        if self.too_long {
            return;
        }
        self.line.extend_from_slice(piece);
        // Long lines about other requests hold whole objects, if the policy asks for them. They do not count as skipped.
        if self.line.len() > MAX_LINE {
            self.skipped += u64::from(self.relevant.is_match(&self.line));
            self.line = Vec::new();
            self.too_long = true;
        }
    }

    fn end_of_line(&mut self, events: &mut Vec<AuditEvent>) {
        if !self.too_long && self.relevant.is_match(&self.line) {
            match event(&self.line, self.anchor.unwrap_or_default()) {
                Ok(event) => events.extend(event),
                Err(error) => {
                    tracing::debug!(%error, bytes = self.line.len(), "a line of the audit log was not understood");
                    self.skipped += 1;
                }
            }
        }
        self.line.clear();
        self.too_long = false;
    }
}

/// Opens a regular file. Reading a FIFO would take its bytes away from other readers.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

#[cfg(test)]
mod tests;
