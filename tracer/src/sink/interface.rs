//! The interface of a sink, and the types that every sink needs.

use std::io::{self, Write};

use crate::model::{
    Ability, BootTime, ClockAnchor, Degraded, Finding, HostFacts, HostNo, MapFill, Observation, Report, SessionId,
};

/// Origin of the observations. Every sink receives it before the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Relates boot time to UTC.
    pub anchor: ClockAnchor,
    /// The host; in a merged recording, the host with number 0.
    pub host: HostFacts,
    /// Further hosts of a merged recording, numbered from 1.
    pub others: Vec<HostFacts>,
    /// Abilities of the tracer on this host.
    pub abilities: Vec<Ability>,
    /// Abilities that the tracer lacks, with reasons.
    pub degraded: Vec<Degraded>,
}

impl Header {
    /// All hosts in the order of their numbers.
    pub fn hosts(&self) -> impl Iterator<Item = &HostFacts> {
        std::iter::once(&self.host).chain(&self.others)
    }

    /// Name of a host; `None` if the recording has no name for it.
    #[must_use]
    pub fn name(&self, host: HostNo) -> Option<&str> {
        let name = self.hosts().nth(host.0.into()).map(|host| host.hostname.as_str());
        name.filter(|name| !name.is_empty())
    }

    /// Name of a host in a recording of several hosts; `None` for a single host, whose name needs no repetition.
    #[must_use]
    pub fn distinct(&self, host: HostNo) -> Option<&str> {
        self.name(host).filter(|_| !self.others.is_empty())
    }
}

/// Renders findings.
pub trait Sink: Send {
    /// Sets the width of the terminal in columns. Called only if the sink writes to one. Default: ignored, since output
    /// should not depend on the terminal.
    fn fit(&mut self, _columns: u16) {}

    /// Asks for more detail than by default, such as the parts of each start. Default: ignored.
    fn detailed(&mut self) {}

    /// True if the sink shows the faults of a whole recording, so that a replay must evaluate all of it. Default: only
    /// the final state is needed.
    fn judges(&self) -> bool {
        false
    }

    /// True if the final report must have sessions and a diagnosis, beside its time and totals. Default: true.
    fn needs_sessions(&self) -> bool {
        true
    }

    /// Notifies the sink that other output went to its target. Its next output must not continue its last line.
    fn interrupted(&mut self) {}

    /// Receives the header. Called once, before any other method that reports data.
    ///
    /// # Errors
    /// When the writer fails.
    fn host(&mut self, header: &Header) -> io::Result<()>;

    /// Reports that every change up to `now` was sent. Default: ignored.
    ///
    /// # Errors
    /// When the writer fails.
    fn passed(&mut self, _now: BootTime) -> io::Result<()> {
        Ok(())
    }

    /// True if the sink delays this session to show it in one piece. Default: false.
    fn holds(&self, _session: &SessionId) -> bool {
        false
    }

    /// Receives a change as it happens. Default: ignored, for sinks that show only the final state.
    ///
    /// # Errors
    /// When the writer fails.
    fn change(&mut self, _finding: &Finding) -> io::Result<()> {
        Ok(())
    }

    /// Receives a measurement. Default: ignored, for sinks that need only the latest ones, which are in the report.
    ///
    /// # Errors
    /// When the writer fails.
    fn measured(&mut self, _seen: &Observation) -> io::Result<()> {
        Ok(())
    }

    /// Receives the state of all sessions with its diagnosis, after each round of measurements of a live trace. Only for sinks of
    /// `Setup::exporters`. Default: ignored.
    ///
    /// # Errors
    /// When the sink cannot go on.
    fn evaluated(&mut self, _report: &Report) -> io::Result<()> {
        Ok(())
    }

    /// Receives the fill of the kernel's maps, now and then. Only for sinks as for [`Sink::evaluated`]. Default: ignored.
    fn filled(&mut self, _maps: &[MapFill]) {}

    /// Receives the number of further observations that were processed but not recorded, and the name of this loss. Only for
    /// sinks as for [`Sink::evaluated`]. Default: ignored.
    fn unrecorded(&mut self, _what: &str, _observations: u64) {}

    /// Receives the final report. Called once, also after Ctrl-C.
    ///
    /// # Errors
    /// When the writer fails.
    fn finish(&mut self, report: &Report) -> io::Result<()>;
}

/// Appearance of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// True if colours are allowed.
    pub color: bool,
}

/// The writer of a sink.
pub type Target = Box<dyn Write + Send>;
