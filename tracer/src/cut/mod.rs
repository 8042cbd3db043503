//! Cuts one session out of a recording, with what it rests on. The cut replays to the same session with the same faults:
//! each attempt is replayed and compared, and a smaller attempt that gives another session is discarded.

mod selection;

use std::{
    fs::File,
    io::{self, Seek},
    path::{Path, PathBuf},
};

pub use self::selection::Extent;
use self::selection::Selection;
use crate::{
    engine::{Filter, Kinds, Playback, Setup, Status, Until},
    model::{BootTime, Report, Session, SessionId, Verdict, matching},
    record::{self, Header, OpenError, Reader, RecordTarget, Writer, Written},
    redact::Redactor,
};

/// A recording, and the session to cut out of it.
pub struct Cut {
    files: Vec<PathBuf>,
    session: Session,
    faults: Vec<Verdict>,
    report: Report,
}

/// Reason for which a session cannot be cut out.
#[derive(Debug)]
pub enum CutError {
    /// A file cannot be read, or is not a recording.
    Open(PathBuf, OpenError),
    /// No session matches; the recording has this number.
    NoMatch(usize),
    /// Several sessions match.
    Several(Vec<SessionId>),
    /// Even the whole recording, written anew, gives another session.
    NotReproduced,
    /// A file cannot be written or read again.
    Io(io::Error),
}

impl From<io::Error> for CutError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The written cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// What the cut keeps of the recording.
    pub extent: Extent,
    /// Size of the cut.
    pub written: Written,
    /// Observations of the recording.
    pub of: u64,
}

impl Cut {
    /// Replays the recording, and finds the session that `id` names.
    ///
    /// # Errors
    /// A file cannot be read, or `id` does not name one session.
    pub fn find(files: &[PathBuf], id: &str) -> Result<Self, CutError> {
        let reader = Reader::open_all(files).map_err(|(file, error)| CutError::Open(file, error))?;
        let report = replayed(reader)?.report;
        let meant = matching(&report.sessions, id);
        let [one] = meant[..] else {
            let several = meant.iter().filter_map(|index| Some(report.sessions.get(*index)?.id.clone())).collect();
            return Err(if meant.is_empty() {
                CutError::NoMatch(report.sessions.len())
            } else {
                CutError::Several(several)
            });
        };
        let session = report.sessions.get(one).cloned().ok_or(CutError::NoMatch(report.sessions.len()))?;
        let faults = faults(&report, &session.id);
        Ok(Self { files: files.to_vec(), session, faults, report })
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Writes the smallest part of the recording that replays to the same session. `command` goes to the header.
    ///
    /// # Errors
    /// A file cannot be read or written, or the session cannot be reproduced.
    pub fn write(&self, to: &Path, command: &str) -> Result<Made, CutError> {
        for extent in Extent::ALL {
            let mut file = record::unnamed(to)?;
            let (written, of) = self.attempt(extent, &file, to, command)?;
            file.rewind()?;
            if self.is_reproduced(file.try_clone()?)? {
                file.rewind()?;
                let mut place = record::create(to, record::Existing::Keep).map_err(io::Error::other)?;
                io::copy(&mut file, &mut place)?;
                return Ok(Made { extent, written, of });
            }
        }
        Err(CutError::NotReproduced)
    }

    /// Writes the observations of this extent. Returns their size, and the number of all observations.
    fn attempt(&self, extent: Extent, file: &File, to: &Path, command: &str) -> Result<(Written, u64), CutError> {
        let mut reader = Reader::open_all(&self.files).map_err(|(file, error)| CutError::Open(file, error))?;
        let header = Header { command: command.to_owned(), part: None, ..reader.header().clone() };
        let target = RecordTarget::of_file(file.try_clone()?, record::is_zstd(to));
        let mut writer = Writer::begin(target, &header)?;
        let mut selection = Selection::new(extent, &self.session, &self.report);
        let mut of = 0;
        for seen in reader.by_ref() {
            of += 1;
            if selection.takes(&seen) {
                writer.write(&seen)?;
            }
        }
        Ok((writer.finish()?, of))
    }

    fn is_reproduced(&self, file: File) -> Result<bool, CutError> {
        let reader = Reader::new(Box::new(file)).map_err(|error| CutError::Open(PathBuf::new(), error))?;
        let report = replayed(reader)?.report;
        let same = |session: &Session| Session { last_seen: BootTime::default(), ..session.clone() };
        let found = report.sessions.iter().find(|session| session.id == self.session.id);
        let is_same = found.is_some_and(|found| same(found) == same(&self.session));
        Ok(is_same && faults(&report, &self.session.id) == self.faults)
    }
}

/// The whole recording, with all sessions and faults.
fn replayed(reader: Reader) -> io::Result<Status> {
    let filter = Filter { kinds: Kinds::All, ..Filter::default() };
    // Arguments in the recording are written as they are.
    let redactor = Redactor { keep_secrets: true, ..Redactor::default() };
    let setup = Setup { filter, redactor, until: Until::Never, sinks: Vec::new(), ..Setup::default() };
    let mut played = Playback::new(reader, setup)?;
    played.to_the_end()?;
    Ok(played.status_of_whole(true))
}

/// Faults of a session, without their times: these depend on samples of other sessions.
fn faults(report: &Report, id: &SessionId) -> Vec<Verdict> {
    let faults = report.diagnosis.faults(id).cloned();
    faults.map(|fault| Verdict { since: None, until: None, ..fault }).collect()
}
