//! Errors as people see them: one line that says what, one that says what to do.

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
};

use super::exit::Exit;
use crate::sink::escape;

/// Longest line of an error; messages quote what was typed.
const LINE: usize = 500;

/// What is told before the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How it ends.
    pub exit: Exit,
    /// What is wrong; empty where there is nothing to say.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl Failure {
    /// Out of its parts.
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: hint.into() }
    }

    /// The command line makes no sense.
    #[must_use]
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, hint)
    }

    /// Output cannot be written. A reader that has gone (`| head`) is no error.
    #[must_use]
    pub fn writing(error: &io::Error) -> Self {
        if is_broken_pipe(error) {
            return Self::new(Exit::Done, "", "");
        }
        Self::new(
            Exit::BadInput,
            format!("cannot write: {error}"),
            "check the space and the rights where the output goes",
        )
    }

    /// Tells it on stderr.
    pub fn tell(&self) {
        if !self.what.is_empty() {
            tell("error", &self.what);
        }
        if !self.hint.is_empty() {
            tell("hint", &self.hint);
        }
    }
}

/// A line on stderr. Where nobody listens there is nobody to tell.
pub(super) fn tell(label: &str, text: &str) {
    drop(writeln!(io::stderr(), "{label}: {}", escape::str(text, LINE)));
}

/// A path in a message.
pub(super) fn named(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    escape::text(path.as_os_str().as_bytes(), LINE)
}

/// Whether the one who read our output is gone.
#[must_use]
pub fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// clap's errors span lines; the first says what, a tip says what to do, and the help of the subcommand does otherwise.
#[must_use]
pub(super) fn from_clap(error: &clap::Error, binary: &str, subcommand: Option<&str>) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let words: Vec<&str> = first.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let what = words.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let tip = paragraphs
        .find_map(|paragraph| paragraph.trim().strip_prefix("tip: "))
        .map(|tip| tip.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let command = subcommand.map_or(String::new(), |name| format!(" {name}"));
    let hint = tip.unwrap_or_else(|| format!("`{binary}{command} --help` says what is possible"));
    Failure::usage(what, hint)
}
