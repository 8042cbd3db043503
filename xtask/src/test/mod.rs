//! `cargo xtask test`: everything that is tested, by one command; CI runs nothing else.
//!
//! One line for each part, with its budget and what it took; the last line counts what really ran. What a part printed is
//! in `xtask-test/PART.log` of the target directory, and is shown when it failed.

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

/// Set up what is missing, then check and test everything.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Only these parts, in the order of the list; repeatable.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Say which parts there are.
    #[arg(long)]
    list: bool,
}

/// Run the long versions of the tests on the lab: hours, not minutes.
#[derive(clap::Args)]
pub(crate) struct Soak {}

/// How long the long versions may take.
const SOAK_MINUTES: u64 = 180;

/// How long the fuzz targets may take then: an hour each, and to be built.
const FUZZ_SOAK_MINUTES: u64 = 400;

/// A part that is stuck is ended after so many times its budget: a hang would leave no summary.
const PATIENCE: u32 = 3;

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        if self.list {
            for part in PARTS {
                say(format_args!("{:8} {:3} min  {}", part.name, part.minutes, part.about))?;
            }
            let whole: u64 = PARTS.iter().map(|part| part.minutes).sum();
            return say(format_args!("{:8} {whole:3} min", "all"));
        }
        if let Some(unknown) = self.only.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
            return Err(hinted(format!("there is no part {unknown}"), "cargo xtask test --list"));
        }
        let chosen = PARTS.iter().filter(|part| self.only.is_empty() || self.only.iter().any(|name| name == part.name));
        Session::new(BTreeMap::new())?.run(chosen.copied())
    }
}

impl Soak {
    #[expect(clippy::unused_self, reason = "every chore is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        let chosen = PARTS.iter().filter(|part| ["build", "ebpf", "fuzz", "lab", "docker"].contains(&part.name));
        let chosen = chosen.map(|part| Part {
            minutes: match part.name {
                "lab" | "docker" => SOAK_MINUTES,
                "fuzz" => FUZZ_SOAK_MINUTES,
                _ => part.minutes,
            },
            ..*part
        });
        Session::new(BTreeMap::from([("EXECPATH_SOAK", "1".into())]))?.run(chosen)
    }
}

/// One run over some parts.
struct Session {
    /// Where what the parts print is kept.
    logs: PathBuf,
    /// Whether a part that must run where tests are counted on may be skipped.
    ci: bool,
    /// Set for every command.
    env: BTreeMap<&'static str, std::ffi::OsString>,
    /// Of the part that runs.
    log: PathBuf,
    /// Of the part that runs.
    deadline: Instant,
}

/// How a part went.
enum Outcome {
    /// It ran; and what there is to say beyond the numbers.
    Ran(Tally, String),
    /// It cannot run here, because…
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
        let mut whole = Tally::default();
        let mut not_built = false;
        for part in parts {
            let begun = Instant::now();
            self.log = self.logs.join(part.name).with_extension("log");
            fs::write(&self.log, "")?;
            self.deadline = begun + Duration::from_secs(60 * part.minutes) * PATIENCE;
            let outcome =
                if not_built { Ok(Outcome::Skipped("the build failed".to_owned())) } else { (part.run)(&mut self) };
            let took = begun.elapsed();
            let (tally, words) = match outcome {
                Ok(Outcome::Ran(tally, words)) => (tally, words),
                // Where tests are counted on, what did not run did not pass.
                Ok(Outcome::Skipped(why)) if self.ci && part.vital => (Tally::failure(), format!("skipped: {why}")),
                Ok(Outcome::Skipped(why)) => (Tally { skipped: 1, ..Tally::default() }, format!("skipped: {why}")),
                Err(error) => (Tally::failure(), format!("{error:#}")),
            };
            // Tests skip themselves too.
            let tally = if self.ci && part.vital { tally.with_skips_failed() } else { tally };
            say(format_args!("{}", Line { part: &part, took, tally, words: &words }))?;
            if tally.failed > 0 {
                let text = fs::read_to_string(&self.log).unwrap_or_default();
                say(format_args!("{}", text.lines().map(|line| format!("    {line}\n")).collect::<String>()))?;
                not_built |= part.name == "build";
            }
            whole += tally;
        }
        say(format_args!("{:.1} min", start.elapsed().as_secs_f64() / 60.0))?;
        say(format_args!("{whole}"))?;
        if whole.failed > 0 {
            bail!("{} failed; logs: {}", whole.failed, self.logs.display());
        }
        Ok(())
    }

    /// A command in the root of the repository.
    fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = crate::tools::command(program);
        command.current_dir(root()).envs(&self.env);
        command
    }

    /// Runs a check that passes or fails as a whole.
    fn check(&self, command: &mut Command) -> Result<Outcome> {
        let passed = self.logged(command)?;
        Ok(Outcome::Ran(if passed { Tally::success() } else { Tally::failure() }, String::new()))
    }

    /// Runs tests, and counts them.
    fn tests(&self, command: &mut Command) -> Result<Outcome> {
        let passed = self.logged(command)?;
        let tally = Tally::of(&fs::read_to_string(&self.log)?);
        // Without a number of failures it was no test that failed: nothing was built, or a test tore all others down.
        let tally = if !passed && tally.failed == 0 { tally + Tally::failure() } else { tally };
        Ok(Outcome::Ran(tally, String::new()))
    }

    /// Runs to the end, or to the end of patience; what it prints goes to the log.
    fn logged(&self, command: &mut Command) -> Result<bool> {
        run::logged(command, &self.log, self.deadline)
    }
}

/// What is said of a part.
struct Line<'a> {
    part: &'a Part,
    took: Duration,
    tally: Tally,
    words: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, took, tally, words } = self;
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
        if words.is_empty() { Ok(()) } else { write!(f, "; {words}") }
    }
}

/// To standard output, at once.
fn say(what: fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}
