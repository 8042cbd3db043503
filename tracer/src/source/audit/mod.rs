//! The API server's audit log, followed as it grows: at the start its end, for sessions that are older than the tracer, then
//! what comes.
//!
//! Polled, not waited for; every read and every line is bounded. When the file is renamed and made anew, the old one is read to
//! its end first; when it is cut, reading begins again at its start. Lines that tell of no session are not parsed.

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

/// How much of what was there before is read: some 50,000 lines of Metadata level.
const TAIL: u64 = 64 << 20;
/// Longest line that is parsed. Requests have at most 1 MiB of headers, their line among them; those of people have some 2 KB.
const MAX_LINE: usize = 256 << 10;
/// Read at once, and in all in one poll: what is left comes in the next one.
const CHUNK: usize = 64 << 10;
const MAX_READ: usize = 8 << 20;
/// Requests of the time before that may still be under way.
const MAX_OLDER: usize = 4_000;
/// What was over so shortly before the start may be of a session that was not over yet when others were asked.
const JUST_OVER: Span = Span::from_secs(1);
/// The anchor is taken anew with each poll, and has some jitter; all stages of a request shall have one.
const STEP_NS: u64 = 10_000_000;
/// Opening a FIFO waits for a writer otherwise (include/uapi/asm-generic/fcntl.h: O_NONBLOCK).
const NONBLOCK: i32 = 0o4000;

/// A log that is followed.
pub struct AuditLog {
    path: PathBuf,
    file: File,
    /// How much of the file was read.
    position: u64,
    line: Vec<u8>,
    /// The line is longer than [`MAX_LINE`]: the rest of it is left out.
    too_long: bool,
    skipped: u64,
    anchor: Option<ClockAnchor>,
    /// What lines that tell of a session have in them.
    relevant: Regex,
    buffer: Vec<u8>,
}

impl AuditLog {
    /// Opens it; reads nothing yet.
    ///
    /// # Errors
    /// When it cannot be read, or is no file.
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

    /// The end of what is there: requests that may be of sessions that are open. The clock is read once they are.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn begin(&mut self, now: BootTime, anchor: ClockAnchor) -> io::Result<Vec<Fact>> {
        self.anchor = Some(anchor);
        let end = self.file.metadata()?.len();
        let start = end.saturating_sub(TAIL);
        self.position = start;
        let mut known: BTreeMap<(BootTime, String, String), AuditEvent> = BTreeMap::new();
        // The first line may be a part of one.
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
        facts.extend(self.told_skipped());
        facts.push(Fact::AuditFollowed);
        Ok(facts)
    }

    /// What came since the last time. A log that cannot be read any more says nothing.
    pub fn poll(&mut self, anchor: ClockAnchor) -> Vec<Fact> {
        if self.anchor.is_none_or(|known| known.boot_to_utc_ns.abs_diff(anchor.boot_to_utc_ns) > STEP_NS) {
            self.anchor = Some(anchor);
        }
        let mut events = Vec::new();
        if let Err(error) = self.follow(&mut events) {
            tracing::debug!(%error, "the audit log cannot be read");
        }
        let mut facts: Vec<Fact> = events.into_iter().map(|event| Fact::Audited(Box::new(event))).collect();
        facts.extend(self.told_skipped());
        facts
    }

    fn told_skipped(&mut self) -> Option<Fact> {
        let count = std::mem::take(&mut self.skipped);
        (count > 0).then_some(Fact::AuditSkipped { count })
    }

    fn follow(&mut self, events: &mut Vec<AuditEvent>) -> io::Result<()> {
        let own = self.file.metadata()?;
        if own.len() < self.position {
            self.cut();
            self.position = 0;
        }
        let before = self.position;
        while self.position - before < MAX_READ as u64 {
            if !self.read(CHUNK, &mut true, events)? {
                return self.perhaps_renamed((own.dev(), own.ino()), events);
            }
        }
        Ok(())
    }

    /// Whether another file has the name now: the one before is finished, and was read to its end.
    fn perhaps_renamed(&mut self, own: (u64, u64), events: &mut Vec<AuditEvent>) -> io::Result<()> {
        // Between renaming and making anew there is none.
        let Ok(named) = fs::metadata(&self.path) else { return Ok(()) };
        if (named.dev(), named.ino()) == own {
            return Ok(());
        }
        let next = open(&self.path)?;
        // What was written between the last read and the renaming.
        while self.read(CHUNK, &mut true, events)? {}
        self.cut();
        self.file = next;
        self.position = 0;
        Ok(())
    }

    /// What is left of a line will never be whole.
    fn cut(&mut self) {
        if !self.too_long && self.relevant.is_match(&self.line) {
            self.skipped += 1;
        }
        self.line.clear();
        self.too_long = false;
    }

    /// Reads at most so much; tells whether there was anything. `whole`: whether what comes begins at the start of a line.
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
        // Of long lines of other requests (whole objects, where the policy asks for them) nothing is missed.
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

/// A file and nothing else: a FIFO that is read is gone for who else reads it.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

#[cfg(test)]
mod tests;
