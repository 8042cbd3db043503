//! The process that owns the demo: it holds the network namespace and the folder, and starts the actors. It removes
//! everything when its stdin closes, so that even a demo killed by SIGKILL leaves nothing behind.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rustix::process::{WaitOptions, set_child_subreaper, waitpid};
use serde::{Deserialize, Serialize};

use super::{
    dir::{DemoDir, VARIABLE},
    names::{APISERVER, CLIENT, KUBELET, READY, RUNC, RUNTIME, SANDBOX, SHIM},
    net,
    wire::write_line,
};
use crate::confine;

/// Line that the demo sends when the tracer is attached.
const START: &[u8] = b"go\n";
/// Most bytes of the client's output that are kept.
const MAX_PRINTED: u64 = 4 << 10;
/// Longest wait for the exit of the last processes.
const LAST_EXITS: Duration = Duration::from_secs(2);

/// Messages from the sandbox to the demo: JSON lines on its stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    /// Every actor listens.
    Ready {
        folder: PathBuf,
    },
    /// The kernel permits no new namespace.
    NotAllowed,
    Failed {
        why: String,
    },
    /// The client exited, with this output.
    Done {
        printed: String,
    },
}

/// Reason for a missing sandbox.
pub(super) enum StartError {
    NotAllowed,
    Failed(String),
}

/// The sandbox, as seen by the demo.
pub(super) struct Sandbox {
    child: Child,
    dir: DemoDir,
    stdin: Option<ChildStdin>,
    messages: Receiver<Message>,
}

impl Sandbox {
    /// Starts the sandbox, and waits until every actor listens.
    pub(super) fn start(command: &[String], within: Duration) -> Result<Self, StartError> {
        let failed = |what: &str, error: io::Error| StartError::Failed(format!("{what}: {error}"));
        let binary = std::env::current_exe().map_err(|error| failed("this program has no path", error))?;
        let mut child = Command::new(&binary)
            .arg0(SANDBOX)
            .args(command)
            .env(VARIABLE, "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C reaches the demo alone; the sandbox then ends its actors in order.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&binary.display().to_string(), error))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let (sender, messages) = channel();
        thread::spawn(move || {
            confine::drop_capabilities();
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
                let Ok(message) = serde_json::from_str(&line) else { continue };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut sandbox = Self { child, dir: DemoDir::at(Path::new("")), stdin, messages };
        match sandbox.messages.recv_timeout(within) {
            Ok(Message::Ready { folder }) => {
                sandbox.dir = DemoDir::at(&folder);
                Ok(sandbox)
            }
            Ok(Message::NotAllowed) => Err(StartError::NotAllowed),
            Ok(Message::Failed { why }) => Err(StartError::Failed(why)),
            Ok(Message::Done { .. }) | Err(RecvTimeoutError::Disconnected) => {
                Err(StartError::Failed("the process that holds it ended at once".to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => Err(StartError::Failed(format!("it was not ready after {within:?}"))),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn dir(&self) -> DemoDir {
        self.dir.clone()
    }

    /// Returns a function that starts the client. Call it when the tracer is attached.
    pub(super) fn start_signal(&mut self) -> Box<dyn FnOnce() + Send> {
        let stdin = self.stdin.as_ref().and_then(|stdin| rustix::io::dup(stdin).ok());
        Box::new(move || {
            if let Some(stdin) = stdin {
                // A sandbox that is gone starts no client; [`super::run`] reports the missing session.
                drop(std::fs::File::from(stdin).write_all(START));
            }
        })
    }

    /// Output of the client once it has exited; `None` on timeout.
    pub(super) fn client_output(&self, within: Duration) -> Option<String> {
        match self.messages.recv_timeout(within) {
            Ok(Message::Done { printed }) => Some(printed),
            Ok(Message::Ready { .. } | Message::NotAllowed | Message::Failed { .. }) | Err(_) => None,
        }
    }

    /// Stops the sandbox, and waits until everything is removed.
    pub(super) fn end(self) {
        drop(self);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // No other process holds its stdout, so that the channel closes when the sandbox has exited.
        loop {
            match self.messages.recv_timeout(2 * LAST_EXITS) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    drop(self.child.kill());
                    break;
                }
            }
        }
        drop(self.child.wait());
    }
}

/// Plays the sandbox.
pub(super) fn play(command: &[String]) -> ExitCode {
    let mut out = io::stdout();
    let message = match Resources::new() {
        Ok(mut resources) => match resources.start() {
            Ok(()) => return resources.play(command),
            Err(error) => Message::Failed { why: error.to_string() },
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Message::NotAllowed,
        Err(error) => Message::Failed { why: error.to_string() },
    };
    drop(write_line(&mut out, &message));
    ExitCode::FAILURE
}

/// Resources of the sandbox, released when dropped.
struct Resources {
    dir: DemoDir,
    actors: Vec<Child>,
}

/// Events that the sandbox waits for.
enum Event {
    Start,
    /// The demo closed the pipe or exited.
    End,
    Printed(String),
}

impl Resources {
    fn new() -> io::Result<Self> {
        net::own_namespace()?;
        set_child_subreaper(rustix::process::Pid::from_raw(1))?;
        Ok(Self { dir: DemoDir::create()?, actors: Vec::new() })
    }

    fn start(&mut self) -> io::Result<()> {
        let dir = &self.dir;
        let bin = dir.actor("");
        for folder in [&bin, &dir.bundle(), &dir.runc_root(), &dir.folder().join("containerd/s")] {
            std::fs::create_dir_all(folder)?;
        }
        let binary = std::env::current_exe()?;
        for name in [CLIENT, APISERVER, KUBELET, RUNTIME, SHIM, RUNC] {
            std::os::unix::fs::symlink(&binary, dir.actor(name))?;
        }
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": {
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.container-name": "web",
                "io.kubernetes.cri.sandbox-name": "miniature",
                "io.kubernetes.cri.sandbox-namespace": "demo",
            },
        });
        std::fs::write(dir.bundle().join("config.json"), config.to_string())?;
        // Each actor connects to the previous one.
        for name in [RUNTIME, KUBELET, APISERVER] {
            let actor = start(&self.dir, name, &[])?;
            self.actors.push(actor);
        }
        Ok(())
    }

    fn play(mut self, command: &[String]) -> ExitCode {
        let folder = self.dir.folder().to_owned();
        drop(write_line(&mut io::stdout(), &Message::Ready { folder }));
        let (sender, events) = channel();
        let of_stdin = sender.clone();
        thread::spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                if line.as_bytes() == START.trim_ascii_end() {
                    drop(of_stdin.send(Event::Start));
                }
            }
            drop(of_stdin.send(Event::End));
        });
        loop {
            match events.recv() {
                Ok(Event::Start) => {
                    let before = ["exec", "miniature", "-c", "web", "--"].map(str::to_owned);
                    let arguments: Vec<String> = before.into_iter().chain(command.iter().cloned()).collect();
                    let client = Command::new(self.dir.actor(CLIENT))
                        .arg0(CLIENT)
                        .args(arguments)
                        .env(VARIABLE, self.dir.folder())
                        .stdin(Stdio::null())
                        .stdout(Stdio::piped())
                        .stderr(Stdio::null())
                        .spawn();
                    match client {
                        Ok(mut client) => {
                            let stdout = client.stdout.take();
                            self.actors.push(client);
                            let sender = sender.clone();
                            thread::spawn(move || {
                                let mut printed = Vec::new();
                                if let Some(mut stdout) = stdout {
                                    drop(stdout.by_ref().take(MAX_PRINTED).read_to_end(&mut printed));
                                    drop(io::copy(&mut stdout, &mut io::sink()));
                                }
                                drop(sender.send(Event::Printed(String::from_utf8_lossy(&printed).into_owned())));
                            });
                        }
                        Err(error) => drop(sender.send(Event::Printed(error.to_string()))),
                    }
                }
                Ok(Event::Printed(printed)) => drop(write_line(&mut io::stdout(), &Message::Done { printed })),
                Ok(Event::End) | Err(_) => return ExitCode::SUCCESS,
            }
        }
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        for actor in &mut self.actors {
            drop(actor.kill());
        }
        for actor in &mut self.actors {
            drop(actor.wait());
        }
        // The shim kills its commands when its runtime has exited. As subreaper, the sandbox waits for both.
        let (sender, gone) = channel::<()>();
        thread::spawn(move || {
            while waitpid(None, WaitOptions::empty()).is_ok() {}
            drop(sender);
        });
        let _in_time = gone.recv_timeout(LAST_EXITS);
        // Errors are ignored: no process is left to report them to.
        drop(std::fs::remove_dir_all(self.dir.folder()));
    }
}

/// Starts an actor, and waits until it listens.
pub(super) fn start(dir: &DemoDir, name: &str, arguments: &[String]) -> io::Result<Child> {
    let mut child = Command::new(dir.actor(name))
        .arg0(name)
        .args(arguments)
        .env(VARIABLE, dir.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim_end() == READY {
        return Ok(child);
    }
    drop(child.kill());
    drop(child.wait());
    Err(io::Error::other(format!("{name} does not listen: {}", line.trim_end())))
}
