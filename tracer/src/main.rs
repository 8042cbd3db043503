//! The binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    execpath::cli::run(std::env::args_os().collect()).into()
}
