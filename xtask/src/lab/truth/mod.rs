//! `cargo xtask lab truth`: how much of what the tracer tells is true, measured on the lab.
//!
//! The oracle is the sessions themselves. Each has a token in its command, which its kubectl's and its process's arguments share,
//! and each is sent a number of bytes that no other is sent: the byte counters of the kernel, as `ss` shows them, then tell whose
//! each connection is, at every leg of the path. Nothing here shares code with the correlator.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};

use self::figures::Figures;
use self::scenario::{How, Play, Scenario};
use super::state::Runtime;
use super::{Up, cluster};
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::target;
use crate::tracer;

mod crowd;
mod figures;
mod judge;
mod kubectls;
mod load;
mod look;
mod plan;
mod scenario;
mod told;

const EXAMPLES: &str = "\
Examples:
  cargo xtask lab truth                                 200 sessions open at once, each by a kubectl
  cargo xtask lab truth --kubectl 1.20                  the same by the oldest
  cargo xtask lab truth --how driver --sessions 1000    1,000 connections of one process
  cargo xtask lab truth --how short --sessions 2000     one after another, then 20 at a time
  cargo xtask lab truth --how older --sessions 50       older than the tracer
  cargo xtask lab truth --sessions 20 --ring-bytes 4096 with a buffer that is too small";

/// Measure how much of what the tracer tells is true.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Truth {
    /// How the sessions are made.
    #[arg(long, value_enum, default_value = "kubectl")]
    how: How,
    /// How many sessions.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    sessions: u32,
    /// What the kubelet runs containers with. A lab that is up has to be of that kind; else one is started, and ended.
    #[arg(long, value_enum, default_value = "containerd")]
    runtime: Runtime,
    /// How many are started at the same time; else 8, and 20 of the short ones.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=100))]
    at_once: Option<u32>,
    /// Which kubectl: a version such as 1.20, or a path; else the newest found.
    #[arg(long, value_name = "VERSION|PATH")]
    kubectl: Option<String>,
    /// Size of the kernel's buffer: too small a one, and records are lost. That has to be told then; sessions may be missing.
    #[arg(long, value_name = "BYTES")]
    ring_bytes: Option<u32>,
    /// What is not found, or not whole, is counted and is no failure: for what the tracer is known not to see.
    #[arg(long)]
    may_miss: bool,
}

impl Truth {
    pub(super) fn run(self, state: &super::State) -> Result<()> {
        let progress = Progress::new();
        let program = tracer::build()?;
        let was_up = state.facts_of_ready().is_ok();
        if !was_up {
            cluster::up(state, self.runtime, None)?;
        }
        let done = self.measure(&program, &progress);
        if !was_up {
            cluster::down(state)?;
        }
        done
    }

    fn measure(&self, program: &std::path::Path, progress: &Progress) -> Result<()> {
        let lab = Up::find()?;
        if lab.facts.runtime != self.runtime {
            let what = format!("the lab is up with {}", cluster::name_of(lab.facts.runtime));
            return Err(hinted(what, "cargo xtask lab down, then again"));
        }
        let scenario = Scenario {
            how: self.how,
            sessions: self.sessions,
            at_once: self.at_once,
            kubectl: self.kubectl.clone(),
            ring_bytes: self.ring_bytes,
        };
        let recording = recording(&scenario)?;
        progress.say(format!("{} with {}", scenario.name(), cluster::name_of(self.runtime)));
        let figures = Play { lab: &lab, program, recording: recording.clone(), scenario: &scenario, progress }.run()?;
        write!(std::io::stdout(), "{figures}")?;
        self.verdict(&figures).map_err(|error| hinted(error, format!("the recording is {}", recording.display())))
    }

    fn verdict(&self, figures: &Figures) -> Result<()> {
        if !figures.wrong.is_empty() {
            bail!("{} things are wrong", figures.wrong.len());
        }
        if self.ring_bytes.is_some() {
            if figures.lost() == 0 {
                bail!("nothing was lost: a smaller buffer, or more sessions");
            }
            return Ok(());
        }
        if figures.lost() > 0 {
            bail!("{} records were lost", figures.lost());
        }
        if !figures.is_whole() && !self.may_miss {
            bail!(
                "of {} sessions {} were found, {} complete, {} left open",
                figures.sessions,
                figures.found,
                figures.complete,
                figures.left_open
            );
        }
        Ok(())
    }
}

/// Where the tracer's recording is kept, until the next of the same name.
fn recording(scenario: &Scenario) -> Result<PathBuf> {
    let folder = target().join("truth");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{}.jsonl.zst", scenario.name())))
}
