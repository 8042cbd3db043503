//! Scenarios: how sessions are opened and observed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use super::crowd::{Crowd, in_turns};
use super::evaluate::{Client, SessionCtx};
use super::figures::Figures;
use super::inspect::Observed;
use super::kubectls::Kubectl;
use super::load::Load;
use super::plan::Planned;
use super::reported::{Reported, Session};
use crate::lab::RunningLab;
use crate::progress::Progress;
use crate::tools::{command, run};
use crate::tracer::{Tracer, boot_time};

/// Difference between the bytes of two kubectl sessions. With 200 sessions, the smallest measured difference of two
/// counters was 99 % of it.
const SPACING: u64 = 20_000;
/// The same for the load driver, whose frames and records are all alike. A thousand sessions then move one gigabyte.
const LOAD_SPACING: u64 = 2_000;

/// Longest wait for the tracer's reports after the last session has opened or closed.
const SETTLE: Duration = Duration::from_secs(30);
/// The same after a loss: a report that is missing by then never comes.
const SETTLE_LOSSES: Duration = Duration::from_secs(5);
/// A heartbeat interval of kubectl plus one second.
const HEARTBEAT: Duration = Duration::from_secs(6);
/// Sampling interval of the tracer's memory.
const SAMPLE: Duration = Duration::from_secs(1);
/// Sessions to start at the same time: enough to keep both cores busy, few enough that no client times out.
const OPENERS: u32 = 8;

/// The clients, and the order in which they open sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum How {
    /// All sessions open at once, each by a kubectl.
    Kubectl,
    /// All sessions open at once, each a WebSocket connection of one process.
    Driver,
    /// Short sessions: one half one after another, the other half twenty at a time.
    Short,
    /// All sessions open and idle before the tracer starts, by kubectls.
    Older,
    /// The same, each a WebSocket connection of one process.
    OlderDriver,
}

impl How {
    const fn name(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Driver => "driver",
            Self::Short => "short",
            Self::Older => "older",
            Self::OlderDriver => "older-driver",
        }
    }

    const fn is_driver(self) -> bool {
        matches!(self, Self::Driver | Self::OlderDriver)
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) how: How,
    pub(super) sessions: u32,
    pub(super) at_once: Option<u32>,
    pub(super) kubectl: Option<String>,
    pub(super) ring_bytes: Option<u32>,
}

impl Scenario {
    /// Short name, for tables and file names.
    pub(super) fn name(&self) -> String {
        let kubectl = self.kubectl.as_ref().map(|version| format!("-{version}")).unwrap_or_default();
        let ring = self.ring_bytes.map(|bytes| format!("-ring-{bytes}")).unwrap_or_default();
        format!("{}{kubectl}-{}{ring}", self.how.name(), self.sessions)
    }

    fn spacing(&self) -> u64 {
        if self.how.is_driver() { LOAD_SPACING } else { SPACING }
    }

    fn at_once(&self) -> usize {
        let usual = match self.how {
            How::Short => 20,
            How::Kubectl | How::Driver | How::Older | How::OlderDriver => OPENERS,
        };
        self.at_once.unwrap_or(usual).try_into().unwrap_or(usize::MAX)
    }
}

/// A scenario in progress.
pub(super) struct Running<'a> {
    pub(super) lab: &'a RunningLab,
    pub(super) program: &'a Path,
    pub(super) recording: &'a Path,
    pub(super) scenario: &'a Scenario,
    pub(super) progress: &'a Progress,
}

impl Running<'_> {
    pub(super) fn run(&self) -> Result<Figures> {
        let start = Instant::now();
        let mut figures = match self.scenario.how {
            How::Kubectl | How::Driver => self.held()?,
            How::Older | How::OlderDriver => self.older()?,
            How::Short => self.short()?,
        };
        figures.took = start.elapsed();
        Ok(figures)
    }

    fn trace(&self) -> Result<Tracer> {
        let mut arguments = vec!["--kind".to_owned(), "all".to_owned()];
        arguments.extend(self.scenario.ring_bytes.map(|bytes| format!("--ring-bytes={bytes}")));
        // The tracer never overwrites a recording.
        if self.recording.exists() {
            std::fs::remove_file(self.recording)?;
        }
        Tracer::start_with(self.program, self.recording, &arguments)
    }

    fn settle(&self) -> Duration {
        if self.scenario.ring_bytes.is_some() { SETTLE_LOSSES } else { SETTLE }
    }

    /// Opens the sessions; calls `on_open` with the number of open ones after each.
    fn open(&self, sessions: &[Planned], on_open: impl Fn(usize) + Sync) -> Result<Crowd> {
        let (count, at_once) = (sessions.len(), self.scenario.at_once());
        // Print ten lines for any number of sessions.
        let report = |open: usize| {
            on_open(open);
            if open.is_multiple_of(count.div_ceil(10)) || open == count {
                self.progress.report(format!("{open} of {count} open"));
            }
        };
        if self.scenario.how.is_driver() {
            return Ok(Crowd::Load(Load::open(&self.lab.state, sessions, at_once, report)?));
        }
        Crowd::kubectls(self.lab, self.scenario.kubectl.as_deref(), sessions, at_once, report)
    }

    fn held(&self) -> Result<Figures> {
        let sessions = Planned::all(1..=self.scenario.sessions, self.scenario.spacing());
        let tracer = self.trace()?;
        let is_small = self.scenario.ring_bytes.is_some();
        let stall = is_small.then(|| Stall::new(&tracer, sessions.len(), self.progress)).transpose()?;
        let crowd = self.open(&sessions, |open| {
            if let Some(stall) = &stall {
                stall.at(open);
            }
        })?;
        drop(stall);
        let mut reported = Reported::default();
        reported.until(&tracer, self.settle(), |reported| reported.count(Session::is_exact) == sessions.len())?;
        self.evaluate(&sessions, crowd, tracer, reported, Vec::new())
    }

    fn older(&self) -> Result<Figures> {
        let sessions = Planned::all(1..=self.scenario.sessions, self.scenario.spacing());
        let mut crowd = self.open(&sessions, |_open| {})?;
        let began = Instant::now();
        let listed = listed(self.program)?;
        let mut notes = vec![format!("`ls` lists {listed} sessions in {:.1} s", began.elapsed().as_secs_f64())];
        let tracer = self.trace()?;
        let started = boot_time();
        let mut reported = Reported::default();
        let all = |reported: &Reported| reported.count(Session::is_exact) == sessions.len();
        let idle = reported.until(&tracer, HEARTBEAT, all)?;
        notes.push(timing("before any input", started, &reported));
        let joined_idle = joined(&reported);
        if !idle {
            let poked = boot_time();
            crowd.poke()?;
            reported.until(&tracer, HEARTBEAT, all)?;
            notes.push(timing("after the next byte", poked, &reported));
        }
        let figures = self.evaluate(&sessions, crowd, tracer, reported, notes)?;
        Ok(Figures { joined_idle: Some(joined_idle), listed: Some(listed), ..figures })
    }

    fn evaluate(
        &self,
        sessions: &[Planned],
        crowd: Crowd,
        tracer: Tracer,
        mut reported: Reported,
        mut notes: Vec<String>,
    ) -> Result<Figures> {
        let observed = Observed::of_all(sessions, self.scenario.spacing())?;
        let clients: BTreeMap<u32, Client> =
            sessions.iter().filter_map(|session| Some((session.number, crowd.client(session.number)?))).collect();
        self.progress.report("the oracle has observed all sessions");
        crowd.end()?;
        reported.until(&tracer, self.settle(), |reported| reported.count(|session| !session.is_closed()) == 0)?;
        tracer.finish_with(|line| reported.take(line))?;
        if let Some(gap) = observed.gap {
            notes.push(format!("smallest difference between two counters: {gap} of {}", self.scenario.spacing()));
        }
        let runtime = self.lab.facts.runtime;
        let mut figures = Figures::evaluate(runtime, sessions.len(), &reported, |session| {
            let number = session.number().or_else(|| observed.owner(session))?;
            let planned = sessions.iter().find(|session| session.number == number)?;
            Some(SessionCtx { runtime, planned, client: *clients.get(&number)?, observed: &observed, last: false })
        });
        figures.notes.extend(notes);
        Ok(figures)
    }

    fn short(&self) -> Result<Figures> {
        let at_once = self.scenario.at_once();
        let single = self.scenario.sessions / 2;
        let tracer = self.trace()?;
        let mut reported = Reported::default();
        let mut memory = Vec::new();
        let seen = Mutex::new(BTreeMap::new());
        let alone = Planned::all(1..=single, SPACING);
        let groups = Planned::all(single + 1..=self.scenario.sessions, SPACING);
        for (sessions, workers) in [(&alone, 1), (&groups, at_once)] {
            self.churn(sessions, workers, &seen, &tracer, &mut reported, &mut memory)?;
            self.progress.report(format!("{} sessions are closed, {workers} at a time", sessions.len()));
        }
        reported.until(&tracer, self.settle(), |reported| reported.count(|session| !session.is_closed()) == 0)?;
        tracer.finish_with(|line| reported.take(line))?;
        let seen = seen.into_inner().map_err(|_poisoned| anyhow!("a thread panicked"))?;
        let runtime = self.lab.facts.runtime;
        let mut figures = Figures::evaluate(runtime, alone.len() + groups.len(), &reported, |session| {
            let ShortSession { planned, client, observed } = seen.get(&session.number()?)?;
            Some(SessionCtx { runtime, planned, client: *client, observed, last: false })
        });
        let (first, last) = thirds(&memory);
        let most = memory.iter().max().copied().unwrap_or(0);
        figures
            .notes
            .push(format!("the tracer's memory: first third {first} KiB, last third {last} KiB, most {most} KiB"));
        figures.memory = Some((first, last));
        Ok(figures)
    }

    fn churn(
        &self,
        sessions: &[Planned],
        workers: usize,
        seen: &Mutex<BTreeMap<u32, ShortSession>>,
        tracer: &Tracer,
        reported: &mut Reported,
        memory: &mut Vec<u64>,
    ) -> Result<()> {
        let under_way: Mutex<BTreeMap<usize, Planned>> = Mutex::default();
        let poisoned = || anyhow!("another thread panicked");
        let one = |worker: usize, session: &Planned| -> Result<()> {
            // Give sessions that run at the same time different byte counts, as small as possible.
            let rank = u32::try_from(worker)? + 1;
            let session = Planned::new(session.number, rank, SPACING);
            under_way.lock().map_err(|_poison| poisoned())?.insert(worker, session.clone());
            let kubectl = Kubectl::open(self.lab.kubectl(self.scenario.kubectl.as_deref())?, &session)?;
            let others: Vec<Planned> = under_way.lock().map_err(|_poison| poisoned())?.values().cloned().collect();
            let observed = Observed::of_one(&session, &others, SPACING)?;
            let client = Client { pid: kubectl.pid(), address: None };
            kubectl.end()?;
            let number = session.number;
            seen.lock()
                .map_err(|_poison| poisoned())?
                .insert(number, ShortSession { planned: session, client, observed });
            Ok(())
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let done = in_turns(sessions, workers, one);
                over.store(true, Ordering::Relaxed);
                done
            });
            while !over.load(Ordering::Relaxed) {
                reported.until(tracer, SAMPLE, |_reported| over.load(Ordering::Relaxed))?;
                memory.push(resident(tracer.pid())?);
            }
            work.join().map_err(|_panic| poisoned())?
        })
    }
}

/// Stops the tracer while the middle half of the sessions opens, so that a small buffer overflows on a machine of any speed.
struct Stall<'a> {
    pid: Pid,
    from: usize,
    until: usize,
    progress: &'a Progress,
}

impl<'a> Stall<'a> {
    fn new(tracer: &Tracer, sessions: usize, progress: &'a Progress) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(tracer.pid())?).context("a pid")?;
        Ok(Self { pid, from: sessions / 4, until: sessions / 4 * 3, progress })
    }

    /// Called with the number of open sessions, each number once.
    fn at(&self, open: usize) {
        if open == self.from {
            self.send(Signal::STOP);
        }
        if open == self.until {
            self.send(Signal::CONT);
        }
    }

    fn send(&self, signal: Signal) {
        if let Err(error) = kill_process(self.pid, signal) {
            self.progress.report(format!("cannot send {signal:?} to the tracer: {error}"));
        }
    }
}

impl Drop for Stall<'_> {
    /// An error while sessions open must not leave a stopped tracer.
    fn drop(&mut self) {
        self.send(Signal::CONT);
    }
}

/// A closed session, and the observations made while it was open.
struct ShortSession {
    planned: Planned,
    client: Client,
    observed: Observed,
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> Result<u64> {
    let status = procfs::process::Process::new(i32::try_from(pid)?)?.status()?;
    status.vmrss.context("the process has no memory")
}

/// Means of the first third and of the last.
fn thirds(samples: &[u64]) -> (u64, u64) {
    let third = (samples.len() / 3).max(1);
    let mean = |part: Option<&[u64]>| {
        let part = part.unwrap_or_default();
        part.iter().sum::<u64>() / u64::try_from(part.len().max(1)).unwrap_or(1)
    };
    (mean(samples.get(..third)), mean(samples.get(samples.len().saturating_sub(third)..)))
}

/// Counts the sessions in `execpath ls`.
fn listed(program: &Path) -> Result<usize> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(&run(command(program).args(["ls", "-o", "json"]))?)?;
    Ok(rows.len())
}

/// Counts own sessions that are joined from the client to the stream.
fn joined(reported: &Reported) -> usize {
    let joined = reported.sessions().filter(|session| session.reaches_stream());
    joined.filter_map(Session::number).collect::<BTreeSet<u32>>().len()
}

/// Describes when sessions became exact, and the gaps of the others.
fn timing(when: &str, since: u64, reported: &Reported) -> String {
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    for (at, session) in &reported.reports {
        if session.number().is_some() && session.is_exact() {
            first.entry(&session.id).or_insert(*at);
        }
    }
    let (joined, exact) = (joined(reported), reported.count(Session::is_exact));
    let mut text = format!("{when}: joined from client to stream {joined}, to the process {exact}");
    if let Some(last) = first.values().max().map(|at| at.saturating_sub(since)) {
        text += &format!(", the last after {}.{:02} s", last / 1_000_000_000, last / 10_000_000 % 100);
    }
    let mut gaps: BTreeMap<&str, usize> = BTreeMap::new();
    for gap in reported.sessions().filter(|session| session.number().is_some()).flat_map(|session| &session.gaps) {
        *gaps.entry(&gap.code).or_default() += 1;
    }
    gaps.iter().fold(text, |text, (code, count)| format!("{text}, {code} {count}"))
}

#[cfg(test)]
mod tests {
    use super::thirds;

    #[test]
    fn thirds_are_means_of_first_and_last() {
        assert_eq!(thirds(&[1, 3, 100, 100, 6, 8]), (2, 7));
        assert_eq!(thirds(&[5]), (5, 5));
        assert_eq!(thirds(&[]), (0, 0));
    }
}
