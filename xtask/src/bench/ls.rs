//! Measures `execpath ls` on a busy machine against the usual commands. Both run in turn, in the same network
//! namespace, so that the load of the machine affects both alike.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::crowd::Crowd;
use crate::lab::RunningLab;
use crate::progress::Progress;
use crate::tools::{command, find};
use crate::{apt, tracer};

/// The usual commands.
const USUAL_COMMANDS: [(&str, &[&str]); 3] = [("ss", &["-tanpi"]), ("ss", &["-xap"]), ("ps", &["-efww"])];
/// With BPF iterators, `ls` may take at most one such part of the others' time.
const SHARE: u32 = 3;
/// Runs of each for a row of the table.
const TABLE_RUNS: u32 = 11;
/// Required by iterators, besides root.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Compare `execpath ls` with `ss -tanpi; ss -xap; ps -efww`. Fail if `ls` takes longer or, with BPF iterators, more
/// than a third of their time.
#[derive(clap::Args)]
pub(crate) struct Ls {
    /// Number of sockets in addition to the machine's own.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sockets: usize,
    /// Number of processes that hold them.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    processes: u32,
    /// Number of runs of each.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

impl Ls {
    pub(crate) fn run(self) -> Result<()> {
        let progress = Progress::new();
        let lacks = [("ss", "iproute2"), ("ps", "procps")];
        let missing: Vec<&str> =
            lacks.iter().filter(|(tool, _)| find(tool).is_none()).map(|(_, package)| *package).collect();
        apt::install(&missing, &progress)?;
        let (own, others) = self.measure_apart(&tracer::build()?, &progress)?;
        self.report(&own, &others)
    }

    /// Durations of `ls` and of the usual commands.
    pub(super) fn measured(
        sockets: usize,
        processes: u32,
        program: &Path,
        progress: &Progress,
    ) -> Result<(Vec<Duration>, Vec<Duration>)> {
        Self { sockets, processes, runs: TABLE_RUNS }.measure_apart(program, progress)
    }

    fn measure_apart(&self, program: &Path, progress: &Progress) -> Result<(Vec<Duration>, Vec<Duration>)> {
        progress.report(format!("starting {} processes with {} sockets", self.processes, self.sockets));
        // Use a separate thread: it enters the crowd's namespace, and its children start there.
        std::thread::scope(|scope| {
            scope
                .spawn(|| self.measure(program, progress))
                .join()
                .map_err(|_panic| anyhow::anyhow!("the measurement panicked"))
        })?
    }

    fn measure(&self, program: &Path, progress: &Progress) -> Result<(Vec<Duration>, Vec<Duration>)> {
        let _crowd = Crowd::start(usize::try_from(self.processes)?, self.sockets)?;
        progress.report(format!("measuring, {} runs of each", self.runs));
        let (mut own, mut others) = (Vec::new(), Vec::new());
        // The first run only fills caches, for both.
        for run in 0..=self.runs {
            let ls = timed([Command::new(program).arg("ls")])?;
            let rest = timed(
                USUAL_COMMANDS
                    .map(|(tool, args)| {
                        let mut other = command(tool);
                        other.args(args);
                        other
                    })
                    .iter_mut(),
            )?;
            if run > 0 {
                own.push(ls);
                others.push(rest);
            }
        }
        Ok((own, others))
    }

    fn report(&self, own: &[Duration], others: &[Duration]) -> Result<()> {
        let (ls, rest) = (median(own), median(others));
        let ratio = ls.as_secs_f64() / rest.as_secs_f64();
        let lab = if RunningLab::find().is_ok() { "beside a lab" } else { "without a lab" };
        let iterators = rustix::process::geteuid().is_root() && Path::new(BTF).exists();
        let limit = if iterators { 1.0 / f64::from(SHARE) } else { 1.0 };
        let ms = |times: &[Duration]| {
            let of = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
            format!(
                "{:>8.1} {:>8.1} {:>8.1}",
                of(times.iter().min().copied()),
                of(Some(median(times))),
                of(times.iter().max().copied())
            )
        };
        let text = format!(
            "{} sockets and {} processes, {lab}; {} runs in turn, wall time in ms\n\
             {:<34} {:>8} {:>8} {:>8}\n\
             {:<34} {}\n\
             {:<34} {}\n\
             ratio of medians: {ratio:.2} (at most {limit:.2}: {})\n",
            self.sockets,
            self.processes,
            self.runs,
            "",
            "min",
            "median",
            "max",
            "execpath ls",
            ms(own),
            "ss -tanpi; ss -xap; ps -efww",
            ms(others),
            if iterators { "with iterators" } else { "without iterators" },
        );
        std::io::stdout().write_all(text.as_bytes())?;
        ensure!(ratio <= limit, "ls takes {ratio:.2} of the others' time, over {limit:.2}");
        Ok(())
    }
}

/// Runs the commands one after another and returns their total duration.
fn timed<'a>(commands: impl IntoIterator<Item = &'a mut Command>) -> Result<Duration> {
    let begin = Instant::now();
    for command in commands {
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let status = status.with_context(|| format!("cannot start {}", crate::tools::shown(command)))?;
        ensure!(status.success(), "{}: {status}", crate::tools::shown(command));
    }
    Ok(begin.elapsed())
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_middle_value() {
        let ms = Duration::from_millis;
        assert_eq!(median(&[ms(9), ms(1), ms(2)]), ms(2));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
