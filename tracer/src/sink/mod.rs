//! Sinks: what was found, shown. Pure renderers to a writer: they know no clock, no terminal, no file, and never ask the
//! correlator for more. Add one: a file here, a row in [`FORMATS`].

use std::io::{self, Write};

use crate::model::{
    Ability, BootTime, ClockAnchor, Degraded, Finding, HostFacts, HostNo, Observation, Report, SessionId,
};

pub mod diagnosis;
pub mod escape;
mod explained;
pub(crate) mod ink;
pub(crate) mod json;
mod jsonl;
pub(crate) mod list;
pub(crate) mod show;
mod tree;
pub mod view;
pub(crate) mod words;

pub use explained::Explained;
pub use jsonl::Jsonl;
pub use list::{Json, Lines, Table};
pub use show::Show;
pub use tree::Tree;

/// Where observations come from: what every sink may need before the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Ties boot time to UTC.
    pub anchor: ClockAnchor,
    /// The host.
    pub host: HostFacts,
    /// Further hosts, of a merged recording: numbered from 1.
    pub others: Vec<HostFacts>,
    /// What the tracer can do there.
    pub abilities: Vec<Ability>,
    /// What it cannot.
    pub degraded: Vec<Degraded>,
}

impl Header {
    /// The hosts, in the order of their numbers.
    pub fn hosts(&self) -> impl Iterator<Item = &HostFacts> {
        std::iter::once(&self.host).chain(&self.others)
    }

    /// The name of a host; `None` where it has none.
    #[must_use]
    pub fn name(&self, host: HostNo) -> Option<&str> {
        let name = self.hosts().nth(host.0.into()).map(|host| host.hostname.as_str());
        name.filter(|name| !name.is_empty())
    }

    /// The same where there is more than one: else it needs no telling.
    #[must_use]
    pub fn distinct(&self, host: HostNo) -> Option<&str> {
        self.name(host).filter(|_| !self.others.is_empty())
    }
}

/// Shows findings.
pub trait Sink: Send {
    /// Columns of the terminal that it writes to, where it does. Default: it does not matter, since lines are to be the same
    /// everywhere.
    fn fit(&mut self, _columns: u16) {}

    /// Whether it shows the faults of the whole recording that is played. Default: it shows the end state alone.
    fn judges(&self) -> bool {
        false
    }

    /// Somebody else wrote to its target: what it writes next should not lean on what it wrote before.
    fn interrupted(&mut self) {}

    /// Called once, first.
    ///
    /// # Errors
    /// When the writer fails.
    fn host(&mut self, header: &Header) -> io::Result<()>;

    /// It is that late, and every change up to then was told. Default: it does not matter.
    ///
    /// # Errors
    /// When the writer fails.
    fn passed(&mut self, _now: BootTime) -> io::Result<()> {
        Ok(())
    }

    /// Whether it holds that session back for a moment, to show it whole. Default: it does so with none.
    fn holds(&self, _session: &SessionId) -> bool {
        false
    }

    /// A change, as it happens. Default: ignore it, for those that show the end state only.
    ///
    /// # Errors
    /// When the writer fails.
    fn change(&mut self, _finding: &Finding) -> io::Result<()> {
        Ok(())
    }

    /// A measure, as it was taken. Default: ignore it, for those that the report's last ones are enough for.
    ///
    /// # Errors
    /// When the writer fails.
    fn measured(&mut self, _seen: &Observation) -> io::Result<()> {
        Ok(())
    }

    /// Called once, also after Ctrl-C, with everything and its gaps.
    ///
    /// # Errors
    /// When the writer fails.
    fn finish(&mut self, report: &Report) -> io::Result<()>;
}

/// How to show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colours.
    pub color: bool,
}

/// What a sink writes to.
pub type Target = Box<dyn Write + Send>;

/// A format of `--output`.
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// For `--help`.
    pub about: &'static str,
    /// Makes the sink.
    pub open: fn(Target, Style) -> Box<dyn Sink>,
}

/// Every format, the default first.
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

/// Every format of one session in full, the default first.
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

/// Every format of a list of sessions, the default first.
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

/// Shows how things stand, or stood.
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

/// The format of that name, of a trace.
#[must_use]
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
