//! Chores of the repository: `cargo xtask --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod ebpf;
mod lab;
mod record;
mod tracer;

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Measure, with the lab up.
    Bench(bench::Bench),
    /// Build the BPF object from tracer-ebpf.
    Ebpf(ebpf::Ebpf),
    /// A real Kubernetes cluster on this machine, for tests.
    Lab(lab::Lab),
    /// Make recordings for the replay tests, with the lab up.
    Record(record::Record),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Bench(chore) => chore.run(),
        Chore::Ebpf(chore) => chore.run(),
        Chore::Lab(chore) => chore.run(),
        Chore::Record(chore) => chore.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
