//! Processes identified by pid, start time and boot, so that a reused pid is never mistaken for them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, identified across runs of `lab`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Process {
    /// Pid in this pid namespace.
    pub(super) pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub(super) start_time: u64,
    /// /proc/sys/kernel/random/boot_id: start times restart with each boot.
    pub(super) boot_id: String,
}

impl Process {
    /// Identifies the process that has this pid now.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let stat = procfs::process::Process::new(pid).and_then(|it| it.stat());
        let stat = stat.with_context(|| format!("cannot read /proc/{pid}/stat"))?;
        Ok(Self { pid, start_time: stat.starttime, boot_id: boot_id()? })
    }

    /// True while the process runs. A zombie does not run.
    pub(super) fn runs(&self) -> bool {
        let Ok(stat) = procfs::process::Process::new(self.pid).and_then(|it| it.stat()) else { return false };
        let same = stat.starttime == self.start_time && boot_id().is_ok_and(|id| id == self.boot_id);
        same && !matches!(stat.state, 'Z' | 'X')
    }

    /// Sends a signal if the process still runs. The pidfd is opened before the start time is compared, so a process
    /// with a reused pid cannot get the signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        if !self.runs() {
            return Ok(());
        }
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal pid {}", self.pid)),
        }
    }

    /// Waits for the process to end. Returns false if it still runs after `limit`.
    pub(super) fn wait(&self, limit: Duration) -> Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(true) };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(true) };
        if !self.runs() {
            return Ok(true);
        }
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&Timespec::try_from(limit)?))?;
        Ok(!self.runs())
    }

    /// Stops the process: SIGTERM, then SIGKILL after `patience`.
    pub(super) fn stop(&self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        if !self.wait(patience)? {
            self.kill()?;
        }
        Ok(())
    }

    /// Kills the process, so that it cannot clean up.
    pub(super) fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10)).map(drop)
    }
}

/// The identity of this boot.
pub(super) fn boot_id() -> Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Process;

    #[test]
    fn child_runs_until_stopped() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep starts");
        let process = Process::of(i32::try_from(child.id()).expect("a pid")).expect("process is in /proc");
        assert!(process.runs());
        process.stop(Duration::from_secs(10)).expect("process stops");
        assert!(!process.runs());
        child.wait().expect("child is reaped");
    }

    #[test]
    fn reused_pid_is_not_signalled() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep starts");
        let process = Process::of(i32::try_from(child.id()).expect("a pid")).expect("process is in /proc");
        let earlier = Process { start_time: process.start_time - 1, ..process.clone() };
        assert!(!earlier.runs());
        earlier.stop(Duration::from_secs(10)).expect("nothing is signalled");
        assert!(process.runs());
        child.kill().expect("child still runs");
        child.wait().expect("child is reaped");
    }
}
