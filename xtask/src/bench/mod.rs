//! `cargo xtask bench`: figures, measured on the lab.

mod latency;

/// Figures, measured on the lab.
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// From a process's execve to the line that tells of its session. Fails when the 99th percentile is over 50 ms.
    Latency(latency::Latency),
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Latency(latency) => latency.run(),
        }
    }
}
