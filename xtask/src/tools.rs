//! Calls of other programs: found on one search path, with captured output, and with every failure reported.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Debian's directories of administration programs, which may be missing from PATH.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// PATH with the sbin directories, for this program and for the daemons. containerd, for example, looks for runc on
/// it.
pub(crate) fn search_path() -> OsString {
    let mut dirs: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    for sbin in SBIN.map(PathBuf::from) {
        if !dirs.contains(&sbin) {
            dirs.push(sbin);
        }
    }
    env::join_paths(dirs).unwrap_or_default()
}

/// Finds a program on [`search_path`].
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(name)).find(|file| is_program(file))
}

/// True if the file exists and is executable.
pub(crate) fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Beginnings of the variables by which `cargo run` describes this package.
const OF_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// Builds a command without standard input that uses [`search_path`], and knows nothing of this package: build scripts that
/// depend on such variables, as ring's does, would run again in each cargo below this one, and their crates be compiled again.
pub(crate) fn command(program: impl Into<PathBuf>) -> Command {
    let mut command = Command::new(program.into());
    command.env("PATH", search_path()).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OF_PACKAGE.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command and returns its standard output. On failure, the error quotes standard error.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", shown(command)))?;
    checked(command, output)
}

/// Like [`run`], with data on standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    // The input is small and read before any output: no thread is needed.
    if let Some(mut stdin) = child.stdin.take() {
        // If the reader is gone, its standard error gives the reason.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    checked(command, output)
}

fn checked(command: &Command, output: Output) -> Result<String> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let words = stderr.trim().lines().last().unwrap_or("no message on standard error");
        bail!("{}: {}: {words}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as a person would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let _ = write!(line, " {}", arg.to_string_lossy());
    }
    line
}

/// Runs a command that inherits standard output and error. Any exit status but success is an error.
pub(crate) fn run_through(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{}: {status}", shown(command));
    }
    Ok(())
}
