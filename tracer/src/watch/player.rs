//! A recording, as of any moment of it. It is read on while time goes on, and anew from its beginning where time goes back:
//! however long it is, no more of it is held than what was known at one moment.

use std::path::{Path, PathBuf};

use crate::{
    correlate::{Correlator, Options},
    diagnose,
    engine::Filter,
    model::{BootTime, Observation, Report},
    record::{End, OpenError, Reader},
    redact::Redactor,
    sink,
};

/// Plays a recording.
pub struct Player {
    path: PathBuf,
    filter: Filter,
    redactor: Redactor,
    header: sink::Header,
    options: Options,
    reader: Reader,
    correlator: Correlator,
    /// Read, and not yet of the moment that is shown.
    next: Option<Observation>,
    /// Up to when all was taken in.
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
        let (mut from, mut to) = (None::<BootTime>, BootTime::default());
        for seen in reader.by_ref() {
            from = Some(from.map_or(seen.at, |from| from.min(seen.at)));
            to = to.max(seen.at);
        }
        let end = reader.end().cloned();
        let reader = Reader::open(path)?;
        let crate::record::Header { anchor, host, abilities, degraded, options, .. } = reader.header().clone();
        let header = sink::Header { anchor, host, abilities, degraded };
        let crate::record::Settings { apiserver_port, kubelet_port, runtime_socket, .. } = options;
        let options = Options { apiserver_port, kubelet_port, runtime_socket };
        let correlator = Correlator::new(&header.host, &options);
        let from = from.unwrap_or_default();
        let path = path.to_owned();
        Ok(Self {
            path,
            filter,
            redactor,
            header,
            options,
            reader,
            correlator,
            next: None,
            at: from,
            wanted: None,
            from,
            to: to.max(from),
            end,
        })
    }

    /// Where it was made.
    #[must_use]
    pub fn header(&self) -> sink::Header {
        self.header.clone()
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
            self.reader = Reader::open(&self.path).map_err(|error| error.to_string())?;
            self.correlator = Correlator::new(&self.header.host, &self.options);
            (self.next, self.at) = (None, self.from);
        }
        for _ in 0..budget {
            let Some(mut seen) = self.next.take().or_else(|| self.reader.next()) else {
                self.correlator.flush();
                return Ok(Some(self.reached(wanted)));
            };
            if seen.at > wanted {
                self.next = Some(seen);
                return Ok(Some(self.reached(wanted)));
            }
            self.redactor.redact(&mut seen);
            self.correlator.ingest(&seen);
            // Questions were answered when it was recorded; changes are for those who do not see the whole.
            drop((self.correlator.wants(), self.correlator.drain()));
        }
        Ok(None)
    }

    fn reached(&mut self, wanted: BootTime) -> Report {
        (self.at, self.wanted) = (wanted, None);
        let mut report = self.correlator.report();
        report.at = report.at.max(wanted);
        report.diagnosis = diagnose::diagnosis(&report);
        report.sessions.retain(|session| self.filter.matches(session));
        report
    }
}
