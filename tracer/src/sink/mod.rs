//! Sinks render findings to a writer. They know no clock, terminal or file, and never query the correlator. To add a
//! sink, add a file here and a row in [`FORMATS`].

use std::io::{self, Write};

use crate::model::{
    Ability, BootTime, ClockAnchor, Degraded, Finding, HostFacts, HostNo, Observation, Report, SessionId,
};

pub(crate) mod color;
pub mod diagnosis;
mod explained;
pub(crate) mod json;
mod jsonl;
pub(crate) mod list;
mod path;
pub(crate) mod phrases;
pub(crate) mod show;
mod tree;
pub mod view;

pub use explained::Explained;
pub use jsonl::Jsonl;
pub use list::{Json, Lines, Table};
pub use show::Show;
pub use tree::Tree;

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

    /// True if the sink shows the faults of a whole recording, so that a replay must evaluate all of it. Default: only
    /// the final state is needed.
    fn judges(&self) -> bool {
        false
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

/// A format of `--output`.
pub struct Format {
    /// Value of the option.
    pub name: &'static str,
    /// Description in `--help`.
    pub about: &'static str,
    /// Creates the sink.
    pub open: fn(Target, Style) -> Box<dyn Sink>,
}

/// Formats of a trace, the default first.
pub const FORMATS: &[Format] = &[
    Format {
        name: "tree",
        about: "the path of each session, drawn hop by hop as it becomes known",
        open: |target, style| Box::new(Tree::new(target, style)),
    },
    Format {
        name: "explain",
        about: "drawn, and each step of the path in plain words",
        open: |target, style| Box::new(Explained::new(target, style, |target| Box::new(Tree::new(target, style)))),
    },
    Format {
        name: "jsonl",
        about: "JSON Lines for programs: every change with the whole session",
        open: |target, _| Box::new(Jsonl::new(target)),
    },
    Format {
        name: "json",
        about: "JSON for programs: an array of sessions as they were in the end",
        open: |target, _| Box::new(Json::new(target)),
    },
];

/// Formats of a single session in full, the default first.
pub const SHOWN: &[Format] = &[
    Format {
        name: "tree",
        about: "the path, drawn, with both ends of each connection",
        open: |target, style| Box::new(Show::new(target, style)),
    },
    Format {
        name: "explain",
        about: "drawn, and each step of the path in plain words",
        open: |target, style| Box::new(Explained::new(target, style, |target| Box::new(Show::new(target, style)))),
    },
    Format { name: "table", about: "a row", open: |target, style| Box::new(Table::new(target, style)) },
    Format { name: "json", about: "JSON for programs: an array of one", open: |target, _| Box::new(Json::new(target)) },
    Format { name: "jsonl", about: "JSON Lines for programs", open: |target, _| Box::new(Lines::new(target)) },
];

/// Formats of a list of sessions, the default first.
pub const LISTS: &[Format] = &[
    Format {
        name: "table",
        about: "a row for each session",
        open: |target, style| Box::new(Table::new(target, style)),
    },
    Format {
        name: "tree",
        about: "the path of each session, drawn",
        open: |target, style| Box::new(Tree::new(target, style)),
    },
    Format {
        name: "json",
        about: "JSON for programs: an array of sessions",
        open: |target, _| Box::new(Json::new(target)),
    },
    Format {
        name: "jsonl",
        about: "JSON Lines for programs: a session a line",
        open: |target, _| Box::new(Lines::new(target)),
    },
];

/// Renders one report with each sink.
///
/// # Errors
/// When a writer fails.
pub fn render(sinks: &mut [Box<dyn Sink>], header: &Header, report: &Report) -> io::Result<()> {
    for sink in sinks {
        sink.host(header)?;
        sink.finish(report)?;
    }
    Ok(())
}

/// The trace format with this name.
#[must_use]
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
