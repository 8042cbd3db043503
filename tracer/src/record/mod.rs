//! Recordings: what was observed, to replay later. docs/recording-format.md is the contract.
//!
//! The writer takes observations in their order of arrival, before anything is put in order, so that a replay decides as the
//! live run did. The reader believes nothing: a recording may come from anywhere.

mod bounds;
mod file;
mod format;
mod parts;
mod place;
mod reader;
mod writer;

pub use file::{CreateError, Existing, create};
pub use format::{FORMAT, Header, MAX_LINE, Part, Settings};
pub use parts::Rotate;
pub use place::Place;
pub use reader::{Damage, End, OpenError, Reader};
pub use writer::Writer;
