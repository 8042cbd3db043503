//! `cargo xtask test`: runs all checks and tests with one command. CI runs nothing else.
//!
//! Prints one line per part, with its budget and duration; the last line counts the tests that really ran. The output
//! of a part goes to `xtask-test/PART.log` in the target directory, and is printed if the part fails.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use self::parts::{PARTS, Part};
use self::tally::Tally;
use crate::hint::hinted;
use crate::repo::{root, target};

mod parts;
mod run;
mod tally;

/// Install missing tools, then run all checks and tests.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Run only these parts, in the order of the list; repeatable.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// List the parts.
    #[arg(long)]
    list: bool,
}

/// Run the long versions of the lab and fuzz tests: hours, not minutes.
#[derive(clap::Args)]
pub(crate) struct Soak {}

/// Budget of the long lab tests, in minutes.
const SOAK_MINUTES: u64 = 180;

/// Budget of the long fuzz tests, in minutes: an hour for each target, and the build.
const FUZZ_SOAK_MINUTES: u64 = 400;

/// Budget of all guests, in minutes.
const KERNELS_SOAK_MINUTES: u64 = 60;

/// Parts that run only with `--only` and in a soak: their time in CI is not known yet.
const ON_REQUEST: [&str; 3] = ["kernels", "dist", "bench"];

/// A part is killed after this multiple of its budget: a hang would leave no summary.
const PATIENCE: u32 = 3;

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        if self.list {
            for part in PARTS {
                print_line(format_args!("{:8} {:3} min  {}", part.name, part.minutes, part.about))?;
            }
            let total: u64 =
                PARTS.iter().filter(|part| !ON_REQUEST.contains(&part.name)).map(|part| part.minutes).sum();
            return print_line(format_args!(
                "{:8} {total:3} min, without parts that run on request: {}",
                "all",
                ON_REQUEST.join(", ")
            ));
        }
        if let Some(unknown) = self.only.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
            return Err(hinted(format!("unknown part {unknown}"), "see `cargo xtask test --list`"));
        }
        let chosen = PARTS.iter().filter(|part| match self.only.as_slice() {
            [] => !ON_REQUEST.contains(&part.name),
            only => only.iter().any(|name| name == part.name),
        });
        Session::new(BTreeMap::new())?.run(chosen.copied())
    }
}

impl Soak {
    #[expect(clippy::unused_self, reason = "every task is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        let chosen = PARTS
            .iter()
            .filter(|part| ["build", "ebpf", "test", "fuzz", "kernels", "lab", "docker"].contains(&part.name));
        let chosen = chosen.map(|part| Part {
            minutes: match part.name {
                "test" | "lab" | "docker" => SOAK_MINUTES,
                "fuzz" => FUZZ_SOAK_MINUTES,
                "kernels" => KERNELS_SOAK_MINUTES,
                _ => part.minutes,
            },
            ..*part
        });
        Session::new(BTreeMap::from([("EXECPATH_SOAK", "1".into())]))?.run(chosen)
    }
}

/// One run of some parts.
struct Session {
    /// Directory of the parts' logs.
    logs: PathBuf,
    /// True in CI, where a vital part must not be skipped.
    ci: bool,
    /// Environment of every command.
    env: BTreeMap<&'static str, std::ffi::OsString>,
    /// Log of the current part.
    log: PathBuf,
    /// Deadline of the current part.
    deadline: Instant,
}

/// Result of a part.
enum Outcome {
    /// The part ran: its counts, and a note for the summary.
    Ran(Tally, String),
    /// The part cannot run here, for this reason.
    Skipped(String),
}

impl Session {
    fn new(env: BTreeMap<&'static str, std::ffi::OsString>) -> Result<Self> {
        let logs = target().join("xtask-test");
        fs::create_dir_all(&logs)?;
        let ci = env::var_os("CI").is_some_and(|value| value == "true");
        Ok(Self { log: logs.clone(), logs, ci, env, deadline: Instant::now() })
    }

    fn run(mut self, parts: impl Iterator<Item = Part>) -> Result<()> {
        let start = Instant::now();
        let mut total = Tally::default();
        let mut not_built = false;
        for part in parts {
            let begin = Instant::now();
            self.log = self.logs.join(part.name).with_extension("log");
            fs::write(&self.log, "")?;
            self.deadline = begin + Duration::from_secs(60 * part.minutes) * PATIENCE;
            let outcome =
                if not_built { Ok(Outcome::Skipped("the build failed".to_owned())) } else { (part.run)(&mut self) };
            let took = begin.elapsed();
            let (tally, note) = match outcome {
                Ok(Outcome::Ran(tally, note)) => (tally, note),
                // In CI, a skipped vital part counts as failed.
                Ok(Outcome::Skipped(why)) if self.ci && part.vital => (Tally::failure(), format!("skipped: {why}")),
                Ok(Outcome::Skipped(why)) => (Tally { skipped: 1, ..Tally::default() }, format!("skipped: {why}")),
                Err(error) => (Tally::failure(), format!("{error:#}")),
            };
            // Single tests may be skipped too.
            let tally = if self.ci && part.vital { tally.with_skips_failed() } else { tally };
            print_line(format_args!("{}", Line { part: &part, took, tally, note: &note }))?;
            if tally.failed > 0 {
                let text = fs::read_to_string(&self.log).unwrap_or_default();
                print_line(format_args!("{}", text.lines().map(|line| format!("    {line}\n")).collect::<String>()))?;
                print_line(format_args!("    {:.1} GB are free at {}", free_gigabytes()?, self.logs.display()))?;
                not_built |= part.name == "build";
            }
            total += tally;
        }
        print_line(format_args!("{:.1} min", start.elapsed().as_secs_f64() / 60.0))?;
        print_line(format_args!("{total}"))?;
        if total.failed > 0 {
            bail!("{} failed; logs: {}", total.failed, self.logs.display());
        }
        Ok(())
    }

    /// Builds a command that runs in the root of the repository.
    fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = crate::tools::command(program);
        // Under sudo, execpath ignores the variable that names the fresh object.
        command.current_dir(root()).env_remove("SUDO_UID").envs(&self.env);
        command
    }

    /// Runs a check that passes or fails as a whole.
    fn check(&self, command: &mut Command) -> Result<Outcome> {
        let passed = self.logged(command)?;
        Ok(Outcome::Ran(if passed { Tally::success() } else { Tally::failure() }, String::new()))
    }

    /// Runs tests and counts their results.
    fn tests(&self, command: &mut Command) -> Result<Outcome> {
        let passed = self.logged(command)?;
        let tally = Tally::of(&fs::read_to_string(&self.log)?);
        // Without a failed test, the build failed, or a test aborted the others.
        let tally = if !passed && tally.failed == 0 { tally + Tally::failure() } else { tally };
        Ok(Outcome::Ran(tally, String::new()))
    }

    /// Runs a command until it ends or the deadline passes. Its output goes to the log.
    fn logged(&self, command: &mut Command) -> Result<bool> {
        run::logged(command, &self.log, self.deadline)
    }
}

/// Free disk for the target directory. A full disk makes tests fail in ways that do not name it.
fn free_gigabytes() -> Result<f64> {
    let disk = rustix::fs::statvfs(target().as_path())?;
    Ok((disk.f_bavail * disk.f_frsize) as f64 / 1e9)
}

/// Summary line of a part.
struct Line<'a> {
    part: &'a Part,
    took: Duration,
    tally: Tally,
    note: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, took, tally, note } = self;
        let word = match tally {
            Tally { failed: 1.., .. } => "FAILED",
            Tally { passed: 0, .. } => "skipped",
            Tally { .. } => "ok",
        };
        let minutes = took.as_secs_f64() / 60.0;
        write!(f, "{word:7} {:8} budget {:2} min, took {minutes:4.1} min: {tally}", part.name, part.minutes)?;
        if *took > Duration::from_secs(60 * part.minutes) {
            write!(f, "; over budget")?;
        }
        if note.is_empty() { Ok(()) } else { write!(f, "; {note}") }
    }
}

/// Prints a line to standard output and flushes it.
fn print_line(what: fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}
