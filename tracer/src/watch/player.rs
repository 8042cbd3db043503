//! Plays a recording up to any moment. Moving forward continues reading; moving back starts over. Memory is bounded by
//! the state at one moment, not by the length of the recording.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    engine::{Filter, Playback, Setup, Until},
    model::{BootTime, Report},
    record::{End, OpenError, Reader},
    redact::Redactor,
    sink,
};

/// Plays a recording.
pub struct Player {
    path: PathBuf,
    filter: Filter,
    redactor: Redactor,
    playback: Playback,
    /// Latest moment that was played.
    at: BootTime,
    /// Moment to play up to; `None` once it is shown.
    target: Option<BootTime>,
    /// Set while the recording is searched for the moment to begin with.
    is_searching: bool,
    from: BootTime,
    to: BootTime,
    end: Option<End>,
}

impl Player {
    /// Opens a recording, and reads it once to find its length and its end.
    ///
    /// # Errors
    /// When the file cannot be read, or is no recording.
    pub fn open(path: &Path, filter: Filter, redactor: Redactor) -> Result<Self, OpenError> {
        let mut reader = Reader::open(path)?;
        let to = reader.by_ref().map(|seen| seen.at).max().unwrap_or_default();
        let end = reader.end().cloned();
        let playback = new_playback(Reader::open(path)?, &filter, &redactor).map_err(OpenError::Io)?;
        let from = playback.start().unwrap_or_default();
        let path = path.to_owned();
        Ok(Self {
            path,
            filter,
            redactor,
            playback,
            at: from,
            target: None,
            is_searching: false,
            from,
            to: to.max(from),
            end,
        })
    }

    /// Header of the recording.
    #[must_use]
    pub fn header(&self) -> sink::Header {
        self.playback.header().clone()
    }

    /// First and last moment.
    #[must_use]
    pub const fn span(&self) -> (BootTime, BootTime) {
        (self.from, self.to)
    }

    /// Note about the file, such as that it was cut; empty for a complete recording.
    #[must_use]
    pub fn note(&self) -> String {
        match &self.end {
            Some(End::Cut { lines }) => format!("cut after line {lines}"),
            Some(End::Damaged(damage)) => format!("damaged at line {}: shown up to there", damage.line),
            Some(End::Continues { part }) => format!("continues in part {part}, which is missing"),
            Some(End::Clean) | None => String::new(),
        }
    }

    /// Requests the state at the moment to begin with: that of the first fault, else that of the first session.
    /// [`Player::play`] finds it; [`Player::moment`] is this moment from then on.
    pub fn seek_beginning(&mut self) {
        (self.is_searching, self.target) = (true, Some(self.to));
    }

    /// The moment that is shown, or played up to.
    #[must_use]
    pub const fn moment(&self) -> BootTime {
        self.at
    }

    /// Requests the state at a moment. [`Player::play`] returns it once played so far.
    pub fn seek(&mut self, at: BootTime) {
        self.is_searching = false;
        self.target = Some(at.clamp(self.from, self.to));
    }

    /// Plays at most `budget` observations. Returns the report once the requested moment is reached.
    ///
    /// # Errors
    /// When the file can no longer be read.
    pub fn play(&mut self, budget: usize) -> Result<Option<Report>, String> {
        let Some(target) = self.target else { return Ok(None) };
        if target < self.at {
            let reader = Reader::open(&self.path).map_err(|error| error.to_string())?;
            self.playback = new_playback(reader, &self.filter, &self.redactor).map_err(|error| error.to_string())?;
            self.at = self.from;
        }
        // Set before the moment is reached: after a partial run, an earlier request must start over.
        self.at = target;
        let is_there = self.playback.towards(target, budget).map_err(|error| error.to_string())?;
        let fault = self.playback.first_fault();
        if self.is_searching && (is_there || fault.is_some()) {
            self.seek(fault.or(self.playback.first_session()).unwrap_or(self.from));
            return Ok(None);
        }
        if !is_there {
            return Ok(None);
        }
        self.target = None;
        Ok(Some(self.playback.status_with_closed().report))
    }
}

/// Creates the playback without sinks, since the screen queries reports itself.
fn new_playback(reader: Reader, filter: &Filter, redactor: &Redactor) -> io::Result<Playback> {
    let setup = Setup {
        filter: filter.clone(),
        redactor: redactor.clone(),
        until: Until::Never,
        sinks: Vec::new(),
        ..Setup::default()
    };
    Playback::new(reader, setup)
}
