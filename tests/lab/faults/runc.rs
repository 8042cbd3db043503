//! Replaces `runc`: prints many warnings before an exec, as the real runc does on some hosts, and then execs the real
//! one.

use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// File with the path of the real runc.
const PLAN: &str = "/run/execpath-lab-runc";
/// More bytes than a pipe takes.
const WARNINGS: usize = 128 << 10;

fn main() -> ExitCode {
    let real = fs::read_to_string(PLAN).expect("the path of the real runc");
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.iter().any(|word| word == "exec") {
        std::io::stderr().write_all(&[b'.'; WARNINGS]).expect("a pipe");
    }
    let error = Command::new(&real).arg0("runc").args(words).exec();
    eprintln!("{real}: {error}");
    ExitCode::FAILURE
}
