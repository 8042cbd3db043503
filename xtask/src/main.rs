//! Chores of the repository: `cargo xtask --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ebpf;
mod lab;

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the BPF object from tracer-ebpf.
    Ebpf(ebpf::Ebpf),
    /// A real Kubernetes cluster on this machine, for tests.
    Lab(lab::Lab),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Ebpf(chore) => chore.run(),
        Chore::Lab(chore) => chore.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
