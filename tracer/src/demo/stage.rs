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
    names::{APISERVER, CLIENT, KUBELET, READY, RUNC, RUNTIME, SHIM, STAGE},
    net,
    place::{Place, VARIABLE},
    wire::write_line,
};

/// Line that the demo sends when the tracer is attached.
const GO: &[u8] = b"go\n";
/// Most bytes of the client's output that are kept.
const MAX_PRINTED: u64 = 4 << 10;
/// Longest wait for the exit of the last processes.
const LAST_EXITS: Duration = Duration::from_secs(2);

/// Messages from the stage to the demo: JSON lines on its stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Says {
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

/// Reason for a missing stage.
pub(super) enum Refused {
    NotAllowed,
    Failed(String),
}

/// The stage, as seen by the demo.
pub(super) struct Stage {
    child: Child,
    place: Place,
    stdin: Option<ChildStdin>,
    says: Receiver<Says>,
}

impl Stage {
    /// Starts the stage, and waits until every actor listens.
    pub(super) fn start(command: &[String], within: Duration) -> Result<Self, Refused> {
        let failed = |what: &str, error: io::Error| Refused::Failed(format!("{what}: {error}"));
        let binary = std::env::current_exe().map_err(|error| failed("this program has no path", error))?;
        let mut child = Command::new(&binary)
            .arg0(STAGE)
            .args(command)
            .env(VARIABLE, "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C reaches the demo alone; the stage then ends its actors in order.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&binary.display().to_string(), error))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let (sender, says) = channel();
        thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
                let Ok(word) = serde_json::from_str(&line) else { continue };
                if sender.send(word).is_err() {
                    break;
                }
            }
        });
        let mut stage = Self { child, place: Place::at(Path::new("")), stdin, says };
        match stage.says.recv_timeout(within) {
            Ok(Says::Ready { folder }) => {
                stage.place = Place::at(&folder);
                Ok(stage)
            }
            Ok(Says::NotAllowed) => Err(Refused::NotAllowed),
            Ok(Says::Failed { why }) => Err(Refused::Failed(why)),
            Ok(Says::Done { .. }) | Err(RecvTimeoutError::Disconnected) => {
                Err(Refused::Failed("the process that holds it ended at once".to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => Err(Refused::Failed(format!("it was not ready after {within:?}"))),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Returns a function that starts the client. Call it when the tracer is attached.
    pub(super) fn go(&mut self) -> Box<dyn FnOnce() + Send> {
        let stdin = self.stdin.as_ref().and_then(|stdin| rustix::io::dup(stdin).ok());
        Box::new(move || {
            if let Some(stdin) = stdin {
                // A stage that is gone starts no client; [`super::run`] reports the missing session.
                drop(std::fs::File::from(stdin).write_all(GO));
            }
        })
    }

    /// Output of the client once it has exited; `None` on timeout.
    pub(super) fn told(&self, within: Duration) -> Option<String> {
        match self.says.recv_timeout(within) {
            Ok(Says::Done { printed }) => Some(printed),
            Ok(Says::Ready { .. } | Says::NotAllowed | Says::Failed { .. }) | Err(_) => None,
        }
    }

    /// Stops the stage, and waits until everything is removed.
    pub(super) fn end(self) {
        drop(self);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // No other process holds its stdout, so that the channel closes when the stage has exited.
        loop {
            match self.says.recv_timeout(2 * LAST_EXITS) {
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

/// Plays the stage.
pub(super) fn play(command: &[String]) -> ExitCode {
    let mut out = io::stdout();
    let says = match Held::new() {
        Ok(mut held) => match held.start() {
            Ok(()) => return held.play(command),
            Err(error) => Says::Failed { why: error.to_string() },
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Says::NotAllowed,
        Err(error) => Says::Failed { why: error.to_string() },
    };
    drop(write_line(&mut out, &says));
    ExitCode::FAILURE
}

/// Resources of the stage, released when dropped.
struct Held {
    place: Place,
    actors: Vec<Child>,
}

/// Events that the stage waits for.
enum Event {
    Go,
    /// The demo closed the pipe or exited.
    End,
    Printed(String),
}

impl Held {
    fn new() -> io::Result<Self> {
        net::own_namespace()?;
        set_child_subreaper(rustix::process::Pid::from_raw(1))?;
        Ok(Self { place: Place::make()?, actors: Vec::new() })
    }

    fn start(&mut self) -> io::Result<()> {
        let place = &self.place;
        let bin = place.actor("");
        for folder in [&bin, &place.bundle(), &place.runc_root(), &place.folder().join("containerd/s")] {
            std::fs::create_dir_all(folder)?;
        }
        let binary = std::env::current_exe()?;
        for name in [CLIENT, APISERVER, KUBELET, RUNTIME, SHIM, RUNC] {
            std::os::unix::fs::symlink(&binary, place.actor(name))?;
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
        std::fs::write(place.bundle().join("config.json"), config.to_string())?;
        // Each actor connects to the previous one.
        for name in [RUNTIME, KUBELET, APISERVER] {
            let actor = start(&self.place, name, &[])?;
            self.actors.push(actor);
        }
        Ok(())
    }

    fn play(mut self, command: &[String]) -> ExitCode {
        let folder = self.place.folder().to_owned();
        drop(write_line(&mut io::stdout(), &Says::Ready { folder }));
        let (sender, events) = channel();
        let of_stdin = sender.clone();
        thread::spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                if line.as_bytes() == GO.trim_ascii_end() {
                    drop(of_stdin.send(Event::Go));
                }
            }
            drop(of_stdin.send(Event::End));
        });
        loop {
            match events.recv() {
                Ok(Event::Go) => {
                    let before = ["exec", "miniature", "-c", "web", "--"].map(str::to_owned);
                    let arguments: Vec<String> = before.into_iter().chain(command.iter().cloned()).collect();
                    let client = Command::new(self.place.actor(CLIENT))
                        .arg0(CLIENT)
                        .args(arguments)
                        .env(VARIABLE, self.place.folder())
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
                Ok(Event::Printed(printed)) => drop(write_line(&mut io::stdout(), &Says::Done { printed })),
                Ok(Event::End) | Err(_) => return ExitCode::SUCCESS,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for actor in &mut self.actors {
            drop(actor.kill());
        }
        for actor in &mut self.actors {
            drop(actor.wait());
        }
        // The shim kills its commands when its runtime has exited. As subreaper, the stage waits for both.
        let (sender, gone) = channel::<()>();
        thread::spawn(move || {
            while waitpid(None, WaitOptions::empty()).is_ok() {}
            drop(sender);
        });
        let _in_time = gone.recv_timeout(LAST_EXITS);
        // Errors are ignored: no process is left to report them to.
        drop(std::fs::remove_dir_all(self.place.folder()));
    }
}

/// Starts an actor, and waits until it listens.
pub(super) fn start(place: &Place, name: &str, arguments: &[String]) -> io::Result<Child> {
    let mut child = Command::new(place.actor(name))
        .arg0(name)
        .args(arguments)
        .env(VARIABLE, place.folder())
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
