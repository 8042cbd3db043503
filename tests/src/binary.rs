//! The real binary.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Result of a run.
#[derive(Debug)]
pub struct Ran {
    /// Exit code.
    pub code: Option<i32>,
    /// stdout
    pub stdout: String,
    /// stderr
    pub stderr: String,
}

/// Path of the built binary: in the folder above the test executables, whatever the target folder is called.
///
/// # Panics
/// If the binary was not built.
#[must_use]
pub fn path() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let found = test.ancestors().skip(1).take(2).map(|folder| folder.join("execpath")).find(|path| path.is_file());
    found.expect("execpath is not built: run `cargo build --profile test` first")
}

/// A command without a terminal, and without environment variables that change its output.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(path());
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env("COLUMNS", "100");
    // A system call that the list of a confined command lacks ends the test.
    command.env("EXECPATH_STRICT_SANDBOX", "1").stdin(Stdio::null());
    command
}

/// Runs execpath with these arguments to its end.
///
/// # Panics
/// If it cannot be run.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    finish(command().args(arguments))
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be run.
pub fn finish(command: &mut Command) -> Ran {
    let output = command.output().expect("execpath runs");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
