//! Real faults, and the verdicts of `execpath diagnose`. Every fault is undone when its test ends, even if the test
//! fails.

mod attempts;
mod client;
mod daemons;
mod forward;
mod guards;
mod input;
mod killed;
mod network;
mod process;
mod runtime;
mod second_apiserver;
mod silent_server;
mod trace_only;
mod tunnel;
mod webhook;

use std::process::{Command, Stdio};

use execpath_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    consistency,
    env::{on, wait, wait_until},
    kubectl::{Exec, Kubectl, Mode, mark},
    reported::{Leg, ReportedSession},
};

/// A session with a mark of its own in its command.
struct Session {
    mark: String,
    kubectl: Option<Kubectl>,
    /// The process in the container: only the test ends it.
    process: Option<u32>,
}

impl Session {
    /// Starts a session, and waits until its path is complete. `script` runs in a shell.
    fn start(mode: Mode, script: &str) -> Self {
        let mark = mark();
        let kubectl = Exec { mode, ..Exec::sh(&format!(": {mark}; {script}")) }.start();
        Self::of(mark, kubectl)
    }

    /// The session that a kubectl or another client has just requested, once its path is complete.
    fn of(mark: String, client: Kubectl) -> Self {
        let mut session = Self { mark, kubectl: Some(client), process: None };
        session.begins();
        session
    }

    /// Requests a session that will not get far.
    fn ask(script: &str) -> Self {
        Self::ask_by(Exec::sh(script))
    }

    /// Requests such a session with this kubectl.
    fn ask_by(mut exec: Exec) -> Self {
        let mark = mark();
        let script = exec.command.last_mut().expect("a script");
        *script = format!(": {mark}; {script}");
        Self { mark, kubectl: Some(exec.start()), process: None }
    }

    /// Waits until the process runs and the path is complete. A session that was held up still begins later. Without an
    /// owner, its process would run on into the next test.
    fn begins(&mut self) {
        wait_until("the path is complete", || self.listed().filter(|one| one["complete"] == true));
        self.process = Some(self.pid("process"));
    }

    fn kubectl(&self) -> &Kubectl {
        self.kubectl.as_ref().expect("kubectl was not ended")
    }

    fn kubectl_mut(&mut self) -> &mut Kubectl {
        self.kubectl.as_mut().expect("kubectl was not ended")
    }

    /// Kills kubectl.
    fn kill_client(&mut self) {
        if let Some(kubectl) = self.kubectl.take() {
            kubectl.signal(Signal::KILL);
            drop(kubectl);
        }
    }

    /// The session as `ls` shows it, found by the mark in its command or kubectl's.
    fn listed(&self) -> Option<Value> {
        list().into_iter().find(|session| session.to_string().contains(&self.mark))
    }

    /// Writes to kubectl's stdin, a pipe.
    fn write(&mut self, text: &str) {
        self.kubectl.as_mut().expect("kubectl was not ended").write(text);
    }

    fn pid(&self, role: &str) -> u32 {
        let session = self.listed().expect("the session is listed");
        let hop = session["hops"].as_array().expect("hops").iter().rfind(|hop| hop["role"] == role);
        let pid = hop.and_then(|hop| hop["pid"].as_u64()).expect("a hop of that role");
        u32::try_from(pid).expect("a pid")
    }

    /// Connections of the session, from the client inwards.
    fn legs(&self) -> Vec<Leg> {
        ReportedSession(self.listed().expect("the session is listed")).legs()
    }

    /// Waits until two looks see the whole path with the same numbers of bytes: nothing is on its way.
    fn rests(&self) {
        let mut before = None;
        wait_until("no byte moves", || {
            let session = self.listed().filter(|one| one["complete"] == true)?;
            let links = session["links"].as_array().expect("links").iter();
            let bytes =
                links.map(|link| [&link["tcp"]["bytes_sent"], &link["tcp"]["bytes_received"]].map(Value::as_u64));
            let bytes = Some(bytes.collect::<Vec<_>>());
            assert!(bytes.iter().flatten().flatten().any(Option::is_some), "{session:#}");
            (std::mem::replace(&mut before, bytes.clone()) == bytes).then_some(())
        });
    }

    /// Exit code and verdicts of a diagnosis of this session.
    fn diagnosed(&self) -> (Option<i32>, Vec<Value>) {
        let id = self.listed().expect("the session is listed")["id"].as_str().expect("an id").to_owned();
        diagnose(&["diagnose", &id])
    }

    /// Waits until the diagnosis names this fault; it must name no other.
    fn is(&self, code: &str) {
        let mut latest = None;
        let named = wait(|| {
            let (exit, found) = self.listed().map(|_| self.diagnosed())?;
            let faults = codes(&found);
            let named = faults.iter().any(|one| one == code);
            if named {
                assert_eq!((exit, faults), (Some(10), vec![code.to_owned()]), "{found:#?}");
            }
            latest = Some((exit, found));
            named.then_some(())
        });
        assert!(named.is_some(), "{code} was not named; latest: {latest:#?}, of {:#?}", self.listed());
        consistency::check_now();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill_client();
        if let Some(process) = self.process {
            signal(process, Signal::KILL);
        }
        // Ends children of the process, and a process that began late.
        let _ended = Command::new("pkill").args(["-KILL", "-f", &self.mark]).status();
    }
}

/// The first process of a container of the lab.
fn first_of(pod: &str, name: &str) -> u32 {
    let container = crate::oracle::container(pod, name);
    *crate::cleanup::first_processes().get(container.id()).expect("the container runs")
}

pub(crate) fn codes(found: &[Value]) -> Vec<String> {
    let faults = found.iter().filter(|verdict| verdict["severity"] == "fault");
    faults.filter_map(|verdict| Some(verdict["code"].as_str()?.to_owned())).collect()
}

fn run(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = binary::command().args(arguments).stderr(Stdio::inherit()).output().expect("execpath starts");
    let found = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), found)
}

pub(crate) fn list() -> Vec<Value> {
    run(&["ls", "--kind", "all", "-o", "json"]).1
}

pub(crate) fn diagnose(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    run(&[arguments, &["-o", "json", "--interval", "2500ms"]].concat())
}

/// Waits until the diagnosis names this fault outside any session.
fn left_over(code: &str) -> Value {
    left_over_by(&[], code)
}

/// The same, with these options of `diagnose`.
fn left_over_by(options: &[&str], code: &str) -> Value {
    let verdict = wait_until(code, || {
        let (exit, found) = diagnose(&[["diagnose"].as_slice(), options].concat());
        let verdict = found.into_iter().find(|verdict| verdict["code"] == code && verdict["session"].is_null())?;
        assert_eq!(exit, Some(10));
        Some(verdict)
    });
    consistency::check_now();
    verdict
}

/// Waits until the diagnosis names this fault, of any subject. It must never name another one. The four commands must
/// then agree.
fn alone(code: &str) -> Vec<Value> {
    let found = named_alone(code);
    consistency::check_now();
    found
}

/// The same, without comparing the commands.
fn named_alone(code: &str) -> Vec<Value> {
    wait_until(code, || {
        let (exit, found) = diagnose(&["diagnose"]);
        let faults = codes(&found);
        assert!(faults.iter().all(|one| one == code), "{found:#?}");
        assert_eq!(exit, Some(if faults.is_empty() { 0 } else { 10 }));
        (!faults.is_empty()).then_some(found)
    })
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // The process may have exited before the fault is undone.
    let _gone = kill_process(pid, signal);
}

/// A process stopped until this is dropped.
struct StoppedProcess(u32);

impl StoppedProcess {
    fn new(pid: u32) -> Self {
        signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

/// A rule of a host's packet filter, removed on drop.
struct PacketFilter {
    host: &'static str,
    rule: Vec<String>,
}

impl PacketFilter {
    fn new(host: &'static str, rule: &[&str]) -> Self {
        let rule: Vec<String> = rule.iter().map(|word| (*word).to_owned()).collect();
        let ran = on(host, "iptables").args(["-w", "-I"]).args(&rule).status().expect("iptables");
        assert!(ran.success(), "iptables {rule:?}");
        Self { host, rule }
    }
}

impl Drop for PacketFilter {
    fn drop(&mut self) {
        let _gone = on(self.host, "iptables").args(["-w", "-D"]).args(&self.rule).status();
    }
}
