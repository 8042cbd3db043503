//! A recording, as of any moment of it. It is read on while time goes on, and anew from its beginning where time goes back:
//! however long it is, no more of it is held than what was known at one moment.

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
    /// Nothing later was taken in.
    at: BootTime,
    /// Up to when it is to be; `None`: it is shown.
    wanted: Option<BootTime>,
    from: BootTime,
    to: BootTime,
    end: Option<End>,
}

impl Player {
    /// Opens a recording, and reads it once: how long it is, and whether it is whole.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(path: &Path, filter: Filter, redactor: Redactor) -> Result<Self, OpenError> {
        let mut reader = Reader::open(path)?;
        let to = reader.by_ref().map(|seen| seen.at).max().unwrap_or_default();
        let end = reader.end().cloned();
        let playback = begin(Reader::open(path)?, &filter, &redactor).map_err(OpenError::Io)?;
        let from = playback.start().unwrap_or_default();
        let path = path.to_owned();
        Ok(Self { path, filter, redactor, playback, at: from, wanted: None, from, to: to.max(from), end })
    }

    /// Where it was made.
    #[must_use]
    pub fn header(&self) -> sink::Header {
        self.playback.header().clone()
    }

    /// Its first and its last moment.
    #[must_use]
    pub const fn span(&self) -> (BootTime, BootTime) {
        (self.from, self.to)
    }

    /// What is to be said of the file.
    #[must_use]
    pub fn note(&self) -> String {
        match &self.end {
            Some(End::Cut { lines }) => format!("cut after line {lines}"),
            Some(End::Damaged(damage)) => format!("damaged at line {}: shown up to there", damage.line),
            Some(End::Continues { part }) => format!("goes on in part {part}, which is not here"),
            Some(End::Clean) | None => String::new(),
        }
    }

    /// Shows it as of then, as soon as it has been played so far.
    pub fn seek(&mut self, at: BootTime) {
        self.wanted = Some(at.clamp(self.from, self.to));
    }

    /// Takes in at most so many observations; gives what is known, once the moment that was asked for is reached.
    ///
    /// # Errors
    /// When the file is there no more.
    pub fn play(&mut self, budget: usize) -> Result<Option<Report>, String> {
        let Some(wanted) = self.wanted else { return Ok(None) };
        if wanted < self.at {
            let reader = Reader::open(&self.path).map_err(|error| error.to_string())?;
            self.playback = begin(reader, &self.filter, &self.redactor).map_err(|error| error.to_string())?;
            self.at = self.from;
        }
        // On the way as well: whoever asks for an earlier moment meanwhile must not be shown what was taken in since.
        self.at = wanted;
        if !self.playback.towards(wanted, budget).map_err(|error| error.to_string())? {
            return Ok(None);
        }
        self.wanted = None;
        Ok(Some(self.playback.seen_at_all().report))
    }
}

/// Nothing is shown as it comes: the screen asks how things stand.
fn begin(reader: Reader, filter: &Filter, redactor: &Redactor) -> io::Result<Playback> {
    let setup = Setup { filter: filter.clone(), redactor: redactor.clone(), until: Until::Told, sinks: Vec::new() };
    Playback::new(reader, setup)
}
