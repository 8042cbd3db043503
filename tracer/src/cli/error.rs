//! Errors for people: a line with the problem, and a line with the remedy.

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
};

use super::exit::Exit;
use crate::{escape, live::LiveError, model::Degraded};

/// Most bytes of an error line; messages quote user input.
const LINE: usize = 500;

/// The error message before the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// The problem; empty if there is nothing to report.
    pub what: String,
    /// The remedy.
    pub hint: String,
}

impl Failure {
    /// Combines the parts.
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: hint.into() }
    }

    /// Invalid command line.
    #[must_use]
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, hint)
    }

    /// Output cannot be written. A reader that closed the pipe (`| head`) is no error.
    #[must_use]
    pub fn writing(error: &io::Error) -> Self {
        if is_broken_pipe(error) {
            return Self::new(Exit::Done, "", "");
        }
        Self::new(
            Exit::BadInput,
            format!("cannot write: {error}"),
            "check free space and permissions at the destination",
        )
    }

    /// Prints the message on stderr.
    pub fn tell(&self) {
        if !self.what.is_empty() {
            tell("error", &self.what);
        }
        if !self.hint.is_empty() {
            tell("hint", &self.hint);
        }
    }
}

/// Prints a line on stderr. A closed stderr is ignored.
pub(super) fn tell(label: &str, text: &str) {
    drop(writeln!(io::stderr(), "{label}: {}", escape::str(text, LINE)));
}

/// A path, escaped for a message.
pub(super) fn named(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    escape::text(path.as_os_str().as_bytes(), LINE)
}

/// True if the reader of our output closed the pipe.
#[must_use]
pub fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Converts clap's multi-line errors. The first paragraph is the problem, a tip is the remedy; without a tip the remedy
/// is the subcommand's help.
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
    let hint = tip.unwrap_or_else(|| format!("`{binary}{command} --help` lists the options"));
    Failure::usage(what, hint)
}

/// The message for a trace that cannot start, or failed.
pub(super) fn live_failure(error: &LiveError) -> Failure {
    match error {
        LiveError::Host(degraded) => {
            let exit = if degraded.code == Degraded::NO_PRIVILEGE { Exit::NeedPrivilege } else { Exit::Unsupported };
            Failure::new(exit, degraded.text.clone(), degraded.hint.clone())
        }
        LiveError::NetNs(netns, error) => Failure::new(
            Exit::BadInput,
            format!("cannot open the network namespace {}: {error}", named(Path::new(&netns.to_string()))),
            "use a name of `ip netns list`, a pid or a path",
        ),
        LiveError::Btf(error) => Failure::new(
            Exit::Unsupported,
            format!("cannot read the kernel's BTF types: {error}"),
            "`execpath doctor` checks this host",
        ),
        LiveError::Load(error) => Failure::new(
            Exit::Unsupported,
            first_line(&error.to_string()),
            "`execpath doctor` checks this host; `-v` shows the kernel's messages",
        ),
        LiveError::Io(error) => Failure::writing(error),
    }
}

/// The verifier's log has thousands of lines.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
/// A limited trace has ended without a session.
pub(super) fn nothing_seen() -> Failure {
    Failure::new(
        Exit::NothingMatched,
        "no session within the duration",
        "use a longer `--duration` or fewer filters; `execpath ls --kind all` lists open sessions",
    )
}
