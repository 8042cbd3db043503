//! Real kubectl processes on the client's host.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
};

use execpath_tests::binary;
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use crate::env::{TIMEOUT, Version, lab, on, wait};

/// Option for stdin and terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Neither stdin nor terminal.
    Plain,
    /// `-i`
    Stdin,
    /// `-it`
    Tty,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Stdin, Self::Tty];

    const fn flag(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Stdin => Some("-i"),
            Self::Tty => Some("-it"),
        }
    }
}

/// Parameters of one `kubectl exec`.
#[derive(Clone, Debug)]
pub(crate) struct Exec {
    pub(crate) version: Version,
    pub(crate) user: &'static str,
    /// Uid that runs kubectl on the client's host.
    pub(crate) uid: u32,
    pub(crate) mode: Mode,
    pub(crate) pod: &'static str,
    pub(crate) container: &'static str,
    pub(crate) command: Vec<String>,
    /// Options before `exec`.
    pub(crate) globals: Vec<String>,
}

impl Exec {
    /// A shell script in the container `web` of the pod `web`, run by the newest kubectl.
    pub(crate) fn sh(script: &str) -> Self {
        Self::of(&["sh", "-c", script])
    }

    pub(crate) fn of(command: &[&str]) -> Self {
        Self {
            version: lab().newest(),
            user: "admin",
            uid: 0,
            mode: Mode::Plain,
            pod: "web",
            container: "web",
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            globals: Vec::new(),
        }
    }

    /// kubectl's arguments.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let flag = self.mode.flag().map(str::to_owned);
        let words = [self.pod, "-c", self.container, "--"].map(str::to_owned);
        let globals = self.globals.iter().cloned();
        globals.chain(["exec".to_owned()]).chain(flag).chain(words).chain(self.command.iter().cloned()).collect()
    }

    /// Starts kubectl.
    pub(crate) fn start(&self) -> Kubectl {
        let mut command = kubectl(self.version, self.user, self.uid);
        command.args(self.arguments());
        match self.mode {
            Mode::Plain => Kubectl::start(command.stdin(Stdio::null()), None),
            Mode::Stdin => Kubectl::start(command.stdin(Stdio::piped()), None),
            Mode::Tty => {
                let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
                grantpt(&terminal).expect("a terminal of our own");
                unlockpt(&terminal).expect("a terminal of our own");
                let path = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("ASCII");
                let open = || File::options().read(true).write(true).open(&path).expect("a terminal");
                Kubectl::start(command.stdin(open()).stdout(open()).stderr(open()), Some(terminal))
            }
        }
    }
}

/// A unique mark for a script: no other process on the machine has it in its arguments.
pub(crate) fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("mark-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A command that runs this version of kubectl as this user of the cluster and this uid.
pub(crate) fn kubectl(version: Version, user: &str, uid: u32) -> Command {
    let lab = lab();
    let program = lab.kubectl(version);
    let mut command = if uid == 0 {
        on("client", program)
    } else {
        let mut command = on("client", "setpriv");
        command.arg(format!("--reuid={uid}")).arg("--clear-groups").arg(program);
        command
    };
    let kubeconfig = lab.kubeconfigs.get(user).expect("a user of the lab");
    command.env("KUBECONFIG", kubeconfig).env("HOME", &lab.home).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running kubectl, killed on drop.
pub(crate) struct Kubectl {
    child: Child,
    readers: Vec<JoinHandle<String>>,
    ended: Option<ExitStatus>,
}

/// Exit status and output of a kubectl.
#[derive(Debug)]
pub(crate) struct KubectlExit {
    pub(crate) status: ExitStatus,
    /// stdout and stderr; a terminal carries both.
    pub(crate) output: String,
}

impl Kubectl {
    /// Starts a command of [`kubectl`].
    pub(crate) fn start(command: &mut Command, terminal: Option<OwnedFd>) -> Self {
        let mut child = command.spawn().expect("kubectl starts");
        // The parent must not keep the inherited descriptors open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(read));
        readers.extend(child.stderr.take().map(read));
        readers.extend(terminal.map(|terminal| read(File::from(terminal))));
        Self { child, readers, ended: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to kubectl's stdin, a pipe.
    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("kubectl reads its stdin");
    }

    /// Closes kubectl's stdin, a pipe.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // A child that was not reaped keeps its pid.
            let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid");
            kill_process(pid, signal).expect("a child of ours");
        }
    }

    /// True if kubectl has already exited.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended = self.ended.or_else(|| self.child.try_wait().expect("a child of ours"));
        self.ended.is_some()
    }

    /// Waits until kubectl exits; panics after [`TIMEOUT`].
    pub(crate) fn end(mut self) -> KubectlExit {
        let ended = wait(|| self.child.try_wait().expect("a child of ours"));
        assert!(ended.is_some(), "kubectl did not end within {TIMEOUT:?}\n{}", self.why_it_is_stuck());
        let status = ended.expect("checked above");
        self.ended = Some(status);
        self.child.stdin = None;
        KubectlExit { status, output: self.output() }
    }

    /// Everything that kubectl printed, after its exit.
    fn output(&mut self) -> String {
        self.readers.drain(..).map(|reader| reader.join().expect("the reader thread ends")).collect()
    }

    /// Diagnostic text for a stuck kubectl: the output of `show`, and kubectl's own goroutine dump. Ends kubectl.
    fn why_it_is_stuck(&mut self) -> String {
        let mut show = binary::command();
        let shown = show.args(["show", "--kind", "all", &self.pid().to_string()]).output().expect("execpath starts");
        let shown = [shown.stdout, shown.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        // An aborted Go program prints the stack of each goroutine: runtime/signal_unix.go, sighandler.
        self.signal(Signal::ABORT);
        self.child.stdin = None;
        self.ended = Some(self.child.wait().expect("a child of ours"));
        format!("{shown}\n{}", self.output())
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        if self.ended.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Reading from a terminal fails with an error, not EOF, once its other side is closed.
        drop(from.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
