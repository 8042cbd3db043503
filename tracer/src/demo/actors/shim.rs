//! Plays the shim: starts commands through runc, and becomes their parent when runc exits. Exits with its runtime, and
//! kills its commands then.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io,
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, set_child_subreaper, waitid, waitpid,
};

use super::ready::ready;
use crate::demo::{
    dir::DemoDir,
    names::RUNC,
    wire::{Lines, ShimEvent, ShimExec, write_line},
};

/// Offset that shells add to a signal number in an exit code.
const BY_SIGNAL: i32 = 128;

/// Process ids of running commands.
type Running = Arc<Mutex<BTreeSet<i32>>>;

pub(super) fn play(dir: &DemoDir) -> io::Result<ExitCode> {
    set_child_subreaper(Pid::from_raw(1))?;
    let listener = UnixListener::bind(dir.shim_socket())?;
    ready()?;
    let (stream, _) = listener.accept()?;
    let runtime = stream.try_clone()?;
    let mut lines = Lines::new(stream)?;
    let running = Running::default();
    while let Ok(Some(exec)) = lines.read::<ShimExec>() {
        match start(dir, &exec) {
            Ok(pid) => {
                running.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.as_raw_nonzero().get());
                let started = ShimEvent::Started { pid: pid.as_raw_nonzero().get().unsigned_abs() };
                lines.write(&started)?;
                let (runtime, running) = (runtime.try_clone()?, Arc::clone(&running));
                thread::spawn(move || report_exit(pid, runtime, &running));
            }
            Err(error) => lines.write(&ShimEvent::Failed { why: format!("{error}\n") })?,
        }
    }
    for pid in &*running.lock().unwrap_or_else(PoisonError::into_inner) {
        if let Some(pid) = Pid::from_raw(*pid) {
            let _gone_already = kill_process_group(pid, Signal::KILL);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts a command through runc, which stores its pid in a file.
fn start(dir: &DemoDir, exec: &ShimExec) -> io::Result<Pid> {
    let (process, pid_file) = (dir.process_file(&exec.exec), dir.pid_file(&exec.exec));
    std::fs::write(&process, serde_json::json!({ "args": exec.args }).to_string())?;
    let fifo = |path: &str| OpenOptions::new().write(true).open(path);
    let log = dir.runc_root().join("log.json");
    // Arguments in the order of containerd's go-runc.
    let status = Command::new(dir.actor(RUNC))
        .arg("--root")
        .arg(dir.runc_root())
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "exec", "--process"])
        .arg(process)
        .arg("--detach")
        .arg("--pid-file")
        .arg(&pid_file)
        .arg(dir.container())
        .stdin(Stdio::null())
        .stdout(fifo(&exec.stdout)?)
        .stderr(fifo(&exec.stderr)?)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(std::fs::read_to_string(log).unwrap_or_else(|error| error.to_string())));
    }
    let pid = std::fs::read_to_string(pid_file)?.trim_ascii().parse().map_err(io::Error::other)?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("runc's pid file makes no sense"))
}

fn report_exit(pid: Pid, mut runtime: UnixStream, running: &Running) {
    // Wait without reaping: the zombie keeps its pid reserved until it is removed from the list.
    let _waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    running.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid.as_raw_nonzero().get());
    let status = waitpid(Some(pid), WaitOptions::empty()).ok().flatten().map(|(_, status)| status);
    let by_signal = |number: i32| number + BY_SIGNAL;
    let code = status.and_then(|status| status.exit_status().or(status.terminating_signal().map(by_signal)));
    // Errors are ignored: a runtime that is gone needs no exit code.
    drop(write_line(&mut runtime, &ShimEvent::Exited { code: code.unwrap_or(BY_SIGNAL) }));
}
