//! The command: started like a shell starts it, and waited for. Signals sent to the front alone are relayed.

use std::{
    ffi::OsString,
    io, mem,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
    ptr,
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use serde::{Deserialize, Serialize};

/// Signals that end or stop a process and that a caller may send to the front alone. The front also takes SIGCHLD and SIGCONT.
const RELAYED: [i32; 11] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
];

/// End of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The command exited with this code.
    Code(u8),
    /// This signal ended the command.
    Signal(u8),
}

impl Status {
    /// Exit code as a shell reports it: the code, or 128 plus the signal's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }

    /// True for exit code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Self {
        let small = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(small(code)),
            (None, signal) => Self::Signal(small(signal.unwrap_or(0))),
        }
    }
}

/// Reason for which the command did not start.
#[derive(Debug)]
pub enum NotStarted {
    /// No such program: exit code 127.
    Missing(io::Error),
    /// The program cannot be executed: exit code 126.
    NotExecutable(io::Error),
    /// The signals of this process cannot be set up.
    Signals(io::Error),
}

/// Signals of this process, blocked so that [`Signals::next`] can take one after another.
pub(super) struct Signals {
    taken: libc::sigset_t,
    /// Mask before, which children begin with.
    before: libc::sigset_t,
}

/// A signal that has arrived.
struct Arrived {
    signal: i32,
    /// Pid of the process that sent it; `None` for signals of the kernel, such as Ctrl-C at a terminal.
    sender: Option<i32>,
}

impl Signals {
    /// Blocks the signals for this process. Call before any thread starts, since threads inherit the mask.
    pub(super) fn block() -> io::Result<Self> {
        // SAFETY: all zeroes is a valid value of this plain data.
        let mut set: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is valid for writes.
        unsafe { libc::sigemptyset(&raw mut set) };
        for signal in RELAYED.into_iter().chain([libc::SIGCHLD]) {
            // SAFETY: `set` was initialised above.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        let mut before = set;
        // SAFETY: both sets are initialised.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) } {
            0 => Ok(Self { taken: set, before }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Lets a command begin with the mask that this process began with.
    pub(super) fn restore_in(&self, command: &mut Command) {
        let before = self.before;
        let restore = move || {
            // SAFETY: the set is initialised; a null pointer means that the old mask is not wanted.
            match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) } {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        };
        // SAFETY: between fork and exec, the closure makes one call, which is async-signal-safe (signal-safety(7)).
        unsafe { command.pre_exec(restore) };
    }

    /// Waits for the next signal.
    fn next(&self) -> io::Result<Arrived> {
        loop {
            // SAFETY: all zeroes is a valid value of this plain data.
            let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
            // SAFETY: both pointers are valid for the call.
            let signal = unsafe { libc::sigwaitinfo(&raw const self.taken, &raw mut info) };
            if signal > 0 {
                let by_process = matches!(info.si_code, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE);
                // SAFETY: `si_pid` is set for signals of processes (sigaction(2)).
                let sender = by_process.then(|| unsafe { info.si_pid() });
                return Ok(Arrived { signal, sender });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Starts the command in this process group, with this process's descriptors, environment and earlier signal mask.
pub(super) fn start(command: &[OsString], signals: &Signals) -> Result<Child, NotStarted> {
    let mut words = command.iter();
    let program = words.next().map_or_else(OsString::new, Clone::clone);
    let mut command = Command::new(program);
    signals.restore_in(&mut command);
    command.args(words).spawn().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            NotStarted::Missing(error)
        } else {
            NotStarted::NotExecutable(error)
        }
    })
}

/// Waits for the end of the command. Meanwhile, relays signals, and stops and continues with the command, so that job control of
/// a shell sees one job.
pub(super) fn wait(child: &Child, signals: &Signals) -> io::Result<Status> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        let Arrived { signal, sender } = signals.next()?;
        if signal == libc::SIGCHLD {
            // One SIGCHLD may stand for several changes.
            while let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG | WaitOptions::UNTRACED)? {
                if status.stopped() {
                    // The shell waits for this process: stop as well. SIGCONT at this process or at the group ends the stop.
                    kill_process(getpid(), Signal::STOP)?;
                } else {
                    return Ok(ExitStatus::from_raw(status.as_raw()).into());
                }
            }
            continue;
        }
        // A signal of the terminal reached the command, too. A signal of the command is meant for this process.
        let is_relayed = sender.is_some_and(|sender| sender != pid.as_raw_nonzero().get());
        if let (true, Some(signal)) = (is_relayed, Signal::from_named_raw(signal)) {
            // The command may have exited; the loop then ends with its SIGCHLD.
            let _gone = kill_process(pid, signal);
        }
    }
}
