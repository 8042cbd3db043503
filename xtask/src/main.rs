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
mod dist;
mod docs;
mod ebpf;
mod fixtures;
mod fuzz;
mod golang;
mod hint;
mod hygiene;
mod image;
mod kernels;
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
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Abi(abi::Abi),
    Arch(arch::Arch),
    Bench(bench::Bench),
    Cross(kernels::Cross),
    Demo(demo::Demo),
    Dist(dist::Dist),
    Docs(docs::Docs),
    Ebpf(ebpf::Ebpf),
    Fixtures(fixtures::Fixtures),
    GoOffsets(golang::GoOffsets),
    Hygiene(hygiene::Hygiene),
    Kernels(kernels::Kernels),
    Lab(lab::Lab),
    Pictures(pictures::Pictures),
    Record(record::Record),
    Soak(test::Soak),
    Test(test::Test),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Abi(task) => task.run(),
        Task::Arch(task) => task.run(),
        Task::Bench(task) => task.run(),
        Task::Cross(task) => task.run(),
        Task::Demo(task) => task.run(),
        Task::Dist(task) => task.run(),
        Task::Docs(task) => task.run(),
        Task::Ebpf(task) => task.run(),
        Task::Fixtures(task) => task.run(),
        Task::GoOffsets(task) => task.run(),
        Task::Hygiene(task) => task.run(),
        Task::Kernels(task) => task.run(),
        Task::Lab(task) => task.run(),
        Task::Pictures(task) => task.run(),
        Task::Record(task) => task.run(),
        Task::Soak(task) => task.run(),
        Task::Test(task) => task.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
