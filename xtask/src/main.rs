//! Tasks of the repository: `cargo xtask --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod abi;
mod apt;
mod arch;
mod bench;
mod browser;
mod cache;
mod demo;
mod docs;
mod ebpf;
mod fixtures;
mod fuzz;
mod golang;
mod hint;
mod hygiene;
mod lab;
mod pictures;
mod progress;
mod record;
mod repo;
mod test;
mod tools;
mod tracer;

/// Run tasks of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Abi(abi::Abi),
    Arch(arch::Arch),
    Bench(bench::Bench),
    Demo(demo::Demo),
    Docs(docs::Docs),
    Ebpf(ebpf::Ebpf),
    Fixtures(fixtures::Fixtures),
    GoOffsets(golang::GoOffsets),
    Hygiene(hygiene::Hygiene),
    Lab(lab::Lab),
    Pictures(pictures::Pictures),
    Record(record::Record),
    Soak(test::Soak),
    Test(test::Test),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Abi(chore) => chore.run(),
        Chore::Arch(chore) => chore.run(),
        Chore::Bench(chore) => chore.run(),
        Chore::Demo(chore) => chore.run(),
        Chore::Docs(chore) => chore.run(),
        Chore::Ebpf(chore) => chore.run(),
        Chore::Fixtures(chore) => chore.run(),
        Chore::GoOffsets(chore) => chore.run(),
        Chore::Hygiene(chore) => chore.run(),
        Chore::Lab(chore) => chore.run(),
        Chore::Pictures(chore) => chore.run(),
        Chore::Record(chore) => chore.run(),
        Chore::Soak(chore) => chore.run(),
        Chore::Test(chore) => chore.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
