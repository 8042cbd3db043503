//! `cargo xtask bench`: measurements.

mod all;
mod budget;
mod callgrind;
mod crowd;
mod exports;
mod hooks;
mod latency;
mod live;
mod ls;
mod replay;
mod sessions;
mod strangers;
mod table;
mod workload;

/// Measure delays, durations and memory.
#[derive(clap::Args)]
#[command(arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    /// Compare instruction counts with the budgets in xtask/budgets.txt. Fail if one differs by more than 5 %.
    #[arg(long)]
    check: bool,
    /// Write new budgets instead.
    #[arg(long, requires = "check")]
    write: bool,
    #[command(subcommand)]
    task: Option<BenchTask>,
}

#[derive(clap::Subcommand)]
enum BenchTask {
    All(all::All),
    /// Measure the delay from a process's execve to the line that reports its session, on the lab. Fail if the 99th
    /// percentile is over 50 ms.
    Latency(latency::Latency),
    /// Measure `execpath ls` against `ss` and `ps`, with many sockets and processes.
    Ls(ls::Ls),
    /// Measure the processor time and memory of `execpath replay`.
    Replay(replay::Replay),
    /// Do the work of a program that is not on the path.
    #[command(hide = true)]
    Stranger(strangers::Stranger),
    /// Run one process of the crowd that `ls` lists.
    #[command(hide = true)]
    Member(crowd::Member),
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.task {
            None => budget::check(self.write),
            Some(BenchTask::All(all)) => all.run(),
            Some(BenchTask::Stranger(stranger)) => stranger.run(),
            Some(BenchTask::Latency(latency)) => latency.run(),
            Some(BenchTask::Ls(ls)) => ls.run(),
            Some(BenchTask::Replay(replay)) => replay.run(),
            Some(BenchTask::Member(member)) => member.run(),
        }
    }
}
