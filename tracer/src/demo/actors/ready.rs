//! The line by which an actor reports that it listens.

use std::io::{self, Write};

use crate::demo::names::READY;

/// Signals the parent that this actor listens.
pub(super) fn ready() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()
}
