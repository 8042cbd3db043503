//! `cargo xtask bench`: figures, measured.

mod crowd;
mod latency;
mod ls;
mod replay;

/// Figures, measured.
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// From a process's execve to the line that tells of its session, on the lab. Fails when the 99th percentile is over 50 ms.
    Latency(latency::Latency),
    /// How long `execpath ls` takes beside `ss` and `ps`, with many sockets and processes.
    Ls(ls::Ls),
    /// How long `execpath replay` takes, and how much memory.
    Replay(replay::Replay),
    /// A process of the crowd that `ls` looks at.
    #[command(hide = true)]
    Member(crowd::Member),
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Latency(latency) => latency.run(),
            What::Ls(ls) => ls.run(),
            What::Replay(replay) => replay.run(),
            What::Member(member) => member.run(),
        }
    }
}
