//! One agent per host publishes to a real server of NATS, and a reader shows all sessions live.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use execpath_tests::{
    binary,
    nats::{Server, is_installed},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    env::{lab, soak, wait_until},
    kubectl::{Exec, Kubectl, Mode, mark},
    oracle::is_right,
    reported::ReportedSession,
    sessions::short,
    tracer::{Line, Tracer},
};

const HOSTS: [&str; 3] = ["client", "master", "worker"];

/// Sessions that are open at once, and sessions that follow one another in groups.
const AT_ONCE: usize = 20;
const AT_ONCE_LONG: usize = 200;
const IN_CHURN: usize = 40;
const IN_CHURN_LONG: usize = 2_000;
const GROUP: usize = 5;
const GROUP_LONG: usize = 20;

/// Longest time from the process's execve to the reader's line, for 99 of 100 sessions.
const SOON: Duration = Duration::from_millis(250);

/// `execpath record nats://…` of one host, in a UTS namespace with that host's name. It is interrupted on drop.
struct Agent(Child);

impl Agent {
    fn start(host: &str, address: &str) -> Self {
        let mut agent = Command::new("unshare");
        agent.args(["--uts", "sh", "-c", "hostname \"$0\" && exec \"$@\"", host]);
        agent.arg(binary::command().get_program()).args(["record", address, "--netns", &lab().netns[host]]);
        Self(agent.stdout(Stdio::null()).spawn().expect("unshare"))
    }
}

/// A server, and an agent of each host of the lab.
pub(crate) struct Cluster {
    _agents: [Agent; 3],
    _server: Server,
    pub(crate) address: String,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let server = Server::start("");
        let address = server.address("lab");
        let agents = HOSTS.map(|host| Agent::start(host, &address));
        wait_until("the stream exists", || server.has_stream("lab").then_some(()));
        Self { _agents: agents, _server: server, address }
    }

    /// A reader that has heard all hosts.
    pub(crate) fn follow(&self) -> Tracer {
        let mut reader = Tracer::follow(&self.address);
        reader.wait("all hosts are heard", |lines| {
            let hosts = lines.iter().rev().find(|line| line.value["type"] == "host")?;
            HOSTS.iter().all(|host| hosts.text.contains(&format!("{host:?}"))).then_some(())
        });
        reader
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A child that was not reaped keeps its pid.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::INT).expect("a child of ours");
        drop(self.0.wait());
    }
}

/// Waits until the reader has shown the end of a session.
fn end(reader: &mut Tracer, mark: &str, exec: &Exec, kubectl: Kubectl) {
    let pid = kubectl.pid();
    let ended = kubectl.end();
    assert!(ended.status.success(), "{ended:?}");
    // Until the facts of a late host are there, an end can be incomplete. It is shown again.
    let is_whole =
        |session: &ReportedSession| session.is_closed() && session.is_complete() && session.gaps().is_empty();
    let session = reader.wait_for(mark, "is closed and whole", is_whole);
    is_right(&session, exec, pid);
}

/// Runs these sessions, which end by themselves, at the same time.
fn run(reader: &mut Tracer, batch: &[(String, Exec)]) {
    let running: Vec<Kubectl> = batch.iter().map(|(_, exec)| exec.start()).collect();
    for ((mark, exec), mut kubectl) in batch.iter().zip(running) {
        if exec.mode == Mode::Stdin {
            kubectl.close_stdin();
        }
        end(reader, mark, exec, kubectl);
    }
}

/// Opens sessions in groups until all of them are open, and ends them.
fn open_and_end(reader: &mut Tracer, all: &[(String, Exec)], group: usize) {
    let mut open = Vec::new();
    for group in all.chunks(group) {
        let running: Vec<Kubectl> = group.iter().map(|(_, exec)| exec.start()).collect();
        for ((mark, _), kubectl) in group.iter().zip(running) {
            reader.wait_for(mark, "is whole", ReportedSession::is_complete);
            open.push(kubectl);
        }
    }
    open.iter_mut().for_each(Kubectl::close_stdin);
    for ((mark, exec), kubectl) in all.iter().zip(open) {
        end(reader, mark, exec, kubectl);
    }
}

/// Time from the execve of each session's process to the reader's first line with that process, shortest first.
fn delays(lines: &[Line], marks: &[String]) -> Vec<Duration> {
    let delay = |mark: &String| {
        lines.iter().find_map(|line| {
            let session = ReportedSession::of(&line.value).filter(|session| session.has(mark))?;
            let began = session.hop("process")?["started_at"].as_str()?;
            let began = humantime::parse_rfc3339(began).expect("a time");
            Some(line.arrived.duration_since(began).unwrap_or_default())
        })
    };
    let mut delays: Vec<Duration> = marks.iter().map(|mark| delay(mark).expect("a line with the process")).collect();
    delays.sort_unstable();
    delays
}

#[test]
fn reader_of_three_agents_shows_whole_sessions_soon() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start();
    let mut reader = cluster.follow();
    let (at_once, in_churn, group) =
        if soak() { (AT_ONCE_LONG, IN_CHURN_LONG, GROUP_LONG) } else { (AT_ONCE, IN_CHURN, GROUP) };
    let open: Vec<_> = (0..at_once).map(|_| until_stdin_ends()).collect();
    open_and_end(&mut reader, &open, group);
    let mut ran = Vec::new();
    for _ in 0..in_churn / group {
        let batch: Vec<_> = Mode::ALL.iter().cycle().take(group).map(|mode| short(*mode, lab().newest())).collect();
        run(&mut reader, &batch);
        ran.extend(batch);
    }
    let marks = |sessions: &[(String, Exec)]| sessions.iter().map(|(mark, _)| mark.clone()).collect::<Vec<_>>();
    let seen = reader.stop();
    seen.holds_only(&marks(&[open, ran.clone()].concat()));
    let delays = delays(&seen.lines, &marks(&ran));
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    eprintln!("from execve to the reader's line: p50 {:?}, p99 {:?}, {} sessions", at(50), at(99), delays.len());
    // Other programs on the machine may not fail the tests of every change.
    assert!(at(99) <= SOON || !soak(), "{delays:?}");
}

/// A session that ends with its stdin, and its mark.
fn until_stdin_ends() -> (String, Exec) {
    let mark = mark();
    let exec = Exec { mode: Mode::Stdin, ..Exec::sh(&format!("echo {mark}; exec cat")) };
    (mark, exec)
}
