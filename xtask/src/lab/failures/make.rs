//! Makes the failures of one kind: starts the clients, and keeps what each of them saw.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::guards::Prepared;
use super::kinds::{Act, Client, Kind};
use crate::lab::RunningLab;
use crate::lab::network::Host;
use crate::lab::process::Process;
use crate::lab::truth::crowd::in_turns;
use crate::lab::truth::inspect::processes;
use crate::lab::truth::kubectls::{Ended, Kubectl};
use crate::lab::truth::plan::Planned;
use crate::progress::wait_until;
use crate::tracer::boot_time;

/// Longest life of a client: more than the dial of a port that drops, which takes the kernel 127 s.
const PATIENCE: Duration = Duration::from_secs(200);

/// Time for a port-forward to end after a failure.
const LINGERS: Duration = Duration::from_secs(2);

/// Pause of a person between two port-forwards. The failure of one that begins within five seconds of another's end is assigned
/// to neither (docs/attempts.md).
const PAUSE: Duration = Duration::from_millis(5_500);

/// A failure that was made, and its client.
#[derive(Debug)]
pub(super) struct Made {
    /// Of kubectl.
    pub(super) pid: u32,
    pub(super) token: String,
    pub(super) ended: Ended,
}

/// Makes the failures of these sessions.
pub(super) fn make(lab: &RunningLab, kind: &Kind, sessions: &[Planned]) -> Result<Vec<Made>> {
    let prepared = (kind.prepare)(lab)?;
    let workers = kind.at_once.min(sessions.len());
    match kind.client {
        Client::Asks(arguments) => asked(lab, None, &prepared, arguments, sessions, workers),
        Client::OldAsks(arguments) => {
            let oldest = lab.kubectls().first().cloned().context("no kubectl")?;
            asked(lab, Some(&oldest), &prepared, arguments, sessions, workers)
        }
        Client::Holds(_, Act::ForAll(act)) => {
            let open = |session: &Planned| Kubectl::open(lab.kubectl(None)?, session);
            together(lab, act, sessions, open)
        }
        Client::Waits(arguments, act) => {
            let open = |session: &Planned| {
                let mut command = lab.kubectl(None)?;
                command.args(arguments).arg(&session.token);
                let kubectl = Kubectl::start(command)?;
                wait_for_command(lab, session)?;
                Ok(kubectl)
            };
            together(lab, act, sessions, open)
        }
        Client::Holds(_, Act::KillCommand) => killed(lab, false, sessions, workers),
        Client::Holds(_, Act::KillClient) => killed(lab, true, sessions, workers),
        Client::Forwards => collect(sessions, workers, |session| forwarded(lab, session)),
    }
}

fn collect(sessions: &[Planned], workers: usize, one: impl Fn(&Planned) -> Result<Made> + Sync) -> Result<Vec<Made>> {
    let made = Mutex::new(Vec::with_capacity(sessions.len()));
    in_turns(sessions, workers, |_worker, session| {
        let one = one(session)?;
        made.lock().map_err(|_poisoned| anyhow!("another thread panicked"))?.push(one);
        Ok(())
    })?;
    made.into_inner().map_err(|_poisoned| anyhow!("a thread panicked"))
}

fn asked(
    lab: &RunningLab,
    version: Option<&str>,
    prepared: &Prepared,
    arguments: &[&str],
    sessions: &[Planned],
    workers: usize,
) -> Result<Vec<Made>> {
    let globals = &prepared.globals;
    collect(sessions, workers, |session| {
        let mut command = lab.kubectl(version)?;
        command.args(globals).args(arguments).arg(&session.token);
        let mut kubectl = Kubectl::start(command)?;
        Ok(Made { pid: kubectl.pid(), token: session.token.clone(), ended: kubectl.wait(PATIENCE)? })
    })
}

/// Opens all sessions, then ends them together.
pub(super) fn together(
    lab: &RunningLab,
    act: fn(&RunningLab) -> Result<Prepared>,
    sessions: &[Planned],
    start: impl Fn(&Planned) -> Result<Kubectl> + Sync,
) -> Result<Vec<Made>> {
    let open = Mutex::new(Vec::new());
    in_turns(sessions, 8, |_worker, session| {
        let kubectl = start(session)?;
        open.lock().map_err(|_poisoned| anyhow!("another thread panicked"))?.push((session.token.clone(), kubectl));
        Ok(())
    })?;
    let open = open.into_inner().map_err(|_poisoned| anyhow!("a thread panicked"))?;
    std::thread::scope(|scope| {
        // A thread for each: the end of none may be noticed late.
        let waiting: Vec<_> = open
            .into_iter()
            .map(|(token, mut kubectl)| {
                scope.spawn(move || -> Result<Made> {
                    let ended = kubectl.wait(PATIENCE)?;
                    Ok(Made { pid: kubectl.pid(), token, ended })
                })
            })
            .collect();
        let acted = act(lab);
        let made = waiting.into_iter().map(|thread| thread.join().map_err(|_panic| anyhow!("a thread panicked"))?);
        let made = made.collect::<Result<Vec<_>>>();
        drop(acted?);
        made
    })
}

/// Kills the command, or kubectl.
fn killed(lab: &RunningLab, is_client: bool, sessions: &[Planned], workers: usize) -> Result<Vec<Made>> {
    collect(sessions, workers, |session| {
        let mut kubectl = Kubectl::open(lab.kubectl(None)?, session)?;
        if is_client {
            kubectl.kill()?;
        } else {
            let command = processes(std::slice::from_ref(session))?;
            kill(command.get(&session.number).context("the command does not run")?.pid)?;
        }
        Ok(Made { pid: kubectl.pid(), token: session.token.clone(), ended: kubectl.wait(PATIENCE)? })
    })
}

/// A port-forward to a port where nobody listens, and a program that connects through it. Its end is that of the program.
fn forwarded(lab: &RunningLab, session: &Planned) -> Result<Made> {
    let mut forward = lab.kubectl(None)?;
    forward.args(["port-forward", "own-net", ":81"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = forward.spawn()?;
    let pid = child.id();
    // Kept open: kubectl prints a line for each connection.
    let mut stdout = BufReader::new(child.stdout.take().context("a pipe")?);
    let mut through = || -> Result<u64> {
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let port = line.split(" -> ").next().and_then(|left| left.rsplit(':').next()).context("a local port")?;
        ensure!(port.parse::<u16>().is_ok(), "kubectl does not listen: {line}");
        // kubectl closes or resets the connection.
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3");
        Host::Client.command("bash")?.args(["-c", &script]).output()?;
        Ok(boot_time())
    };
    let at = through();
    // Newer kubectls end now.
    let is_over = Process::of(i32::try_from(pid)?)?.wait(LINGERS)?;
    if !is_over {
        child.kill()?;
    }
    let status = child.wait()?;
    std::thread::sleep(PAUSE);
    Ok(Made { pid, token: session.token.clone(), ended: Ended { status, at: at?, said: String::new() } })
}

fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a pid")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// Waits until the shell of this session runs.
pub(super) fn wait_for_command(lab: &RunningLab, session: &Planned) -> Result<()> {
    let runs = || Ok(!commands(|last| last == session.token)?.is_empty());
    wait_until("the command", PATIENCE, &lab.state.log("kubelet"), runs)
}

/// Ends commands that outlive their client.
pub(super) fn end_commands(sessions: &[Planned]) -> Result<()> {
    commands(|last| sessions.iter().any(|session| session.token == last))?.into_iter().try_for_each(kill)
}

/// Pids of shells whose last argument is such a token.
fn commands(is_token: impl Fn(&str) -> bool) -> Result<Vec<u32>> {
    let shells = procfs::process::all_processes()?.filter_map(Result::ok).filter(|process| {
        // Skip processes that end meanwhile.
        let Ok(words) = process.cmdline() else { return false };
        words.last().is_some_and(|last| is_token(last)) && words.first().is_some_and(|program| program == "sh")
    });
    shells.map(|process| Ok(u32::try_from(process.pid)?)).collect()
}
