//! Pictures of a recording: an HTML page to explore, an SVG drawing, Mermaid text, a trace for Perfetto.
//!
//! A replay sends its findings to a [`Collector`]; each picture is written from the resulting [`Timeline`]. To add a
//! picture, add a file here and its row in [`PICTURES`].

use std::io::{self, Write};

mod collector;
mod html;
mod labels;
mod layout;
mod mermaid;
mod page_data;
mod perfetto;
mod samples;
mod svg;
mod timeline;

pub use collector::Collector;
pub use samples::{Sample, Samples};
pub use timeline::{Edge, Proof, SessionTimeline, Timed, Timeline};

/// A format of `render --output`.
pub struct Picture {
    /// Value of the option.
    pub name: &'static str,
    /// Description in `--help`.
    pub about: &'static str,
    /// Writes the picture.
    pub write: fn(&Timeline, &mut dyn Write) -> io::Result<()>,
}

/// Every format.
pub const PICTURES: &[Picture] = &[
    Picture { name: "html", about: "a page to explore in a browser, without any server", write: html::write },
    Picture { name: "svg", about: "one drawing of each path", write: svg::write },
    Picture { name: "mermaid", about: "a flowchart as text, for Markdown", write: mermaid::write },
    Picture { name: "perfetto", about: "a trace for ui.perfetto.dev: hops and legs over time", write: perfetto::write },
];
