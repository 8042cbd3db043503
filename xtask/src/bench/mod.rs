//! `cargo xtask bench`: measurements.

mod crowd;
mod latency;
mod ls;
mod replay;

/// Measure delays, durations and memory.
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    task: BenchTask,
}

#[derive(clap::Subcommand)]
enum BenchTask {
    /// Measure the delay from a process's execve to the line that reports its session, on the lab. Fail if the 99th
    /// percentile is over 50 ms.
    Latency(latency::Latency),
    /// Measure `execpath ls` against `ss` and `ps`, with many sockets and processes.
    Ls(ls::Ls),
    /// Measure the processor time and memory of `execpath replay`.
    Replay(replay::Replay),
    /// Run one process of the crowd that `ls` lists.
    #[command(hide = true)]
    Member(crowd::Member),
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.task {
            BenchTask::Latency(latency) => latency.run(),
            BenchTask::Ls(ls) => ls.run(),
            BenchTask::Replay(replay) => replay.run(),
            BenchTask::Member(member) => member.run(),
        }
    }
}
