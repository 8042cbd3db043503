//! The binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    execpath::cli::main(std::env::args_os().collect())
}
