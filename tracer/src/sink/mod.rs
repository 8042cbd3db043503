//! Sinks render findings to a writer. They know no clock, terminal or file, and never query the correlator. To add a
//! sink, add a file here and a row in [`FORMATS`].

use std::io;

use crate::model::Report;

pub(crate) mod color;
pub mod diagnosis;
mod explained;
mod interface;
pub(crate) mod json;
mod jsonl;
pub(crate) mod list;
mod path;
pub(crate) mod phrases;
pub(crate) mod show;
mod tree;
pub mod view;
pub(crate) mod waterfall;

pub use explained::Explained;
pub use interface::{Header, Sink, Style, Target};
pub use jsonl::Jsonl;
pub use list::{Json, Lines, Names, Table};
pub use show::Show;
pub use tree::Tree;

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
        about: "JSON Lines for programs: every change with the complete session",
        open: |target, _| Box::new(Jsonl::new(target)),
    },
    Format {
        name: "json",
        about: "JSON for programs: an array of the sessions in their final state",
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
        name: "wide",
        about: "a row for each session, with API server, user and whole commands",
        open: |target, style| Box::new(Table::wide(target, style)),
    },
    Format {
        name: "name",
        about: "the id of each session, a line each",
        open: |target, _| Box::new(Names::new(target)),
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
