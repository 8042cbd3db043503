//! Recordings: observations for a later replay. docs/recording-format.md is the contract.
//!
//! The writer stores observations in their order of arrival, before the reordering, so that a replay decides like the
//! live run. The reader trusts nothing: a recording may come from anywhere.

mod batches;
mod bounds;
mod file;
mod format;
mod line;
mod parts;
mod reader;
mod target;
mod writer;

pub use batches::{Batch, BatchSink, MAX_BATCH};
pub use bounds::open_memory_count;
pub use file::{CreateError, Existing, create, unnamed};
pub use format::{FORMAT, Header, MAX_LINE, Part, Settings};
pub use line::is_continued;
pub use parts::{Rotate, size};
pub use reader::{Damage, End, OpenError, Reader};
pub use target::{RecordTarget, is_zstd};
pub use writer::{BATCH_EVERY, REFUSED, Writer, Written};
