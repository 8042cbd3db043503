//! `cargo xtask record`: makes the recordings of the replay tests on the lab.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use crate::lab::Up;
use crate::tracer::{self, PATIENCE, Tracer};

/// Address of the relay during its recording.
const RELAY: &str = "127.0.0.1:7443";

/// Make recordings for the replay tests, on the lab that is up. With dockerd, their names begin with `docker-`.
#[derive(clap::Args)]
pub(crate) struct Record {
    /// Names of the recordings. Default: all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Output folder.
    #[arg(long, value_name = "FOLDER", default_value = "tests/recordings")]
    folder: PathBuf,
}

struct Scene {
    name: &'static str,
    /// Description, one sentence.
    about: &'static str,
    /// True for the oldest kubectl, false for the newest.
    oldest_kubectl: bool,
    arguments: &'static [&'static str],
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Plain,
    Terminal,
    /// kubectl is killed once the session is complete. Its process is killed after the session was closed.
    Killed,
    Relay,
    /// stdin stays open without input, and the session is sampled.
    Waiting,
    /// A fault: kubectl is stopped while output arrives, and the session is sampled.
    Stopped,
    /// This number of sessions at once.
    Crowd(usize),
    /// This number of sessions at once, in four simultaneous recordings: all hosts together, and each host alone.
    Hosts(usize),
}

/// Simultaneous recordings: name, and arguments of the tracer.
const SIDES: [(&str, &[&str]); 4] = [
    ("all", &[]),
    ("client", &["--netns", "lab-c"]),
    ("master", &["--netns", "lab-m"]),
    ("worker", &["--netns", "lab-w"]),
];

/// Time for three samples, two of which show a standstill.
const MEASURED: std::time::Duration = std::time::Duration::from_secs(7);

const SCENES: [Scene; 9] = [
    Scene {
        name: "terminal",
        about: "a terminal, by a kubectl that tries WebSocket first, is refused, and falls back to SPDY",
        oldest_kubectl: false,
        arguments: &["exec", "-it", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 0.2"],
        how: How::Terminal,
    },
    Scene {
        name: "exit-3",
        about: "stdin, by an old kubectl, and an exit code",
        oldest_kubectl: true,
        arguments: &["exec", "-i", "web", "-c", "side", "--", "sh", "-c", "cat; exit 3"],
        how: How::Plain,
    },
    Scene {
        name: "start-failed",
        about: "a command that does not exist",
        oldest_kubectl: false,
        arguments: &["exec", "own-net", "-c", "own-net", "--", "no-such-command"],
        how: How::Plain,
    },
    Scene {
        name: "kubectl-killed",
        about: "kubectl is killed, its process goes on",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "sleep 600; exit 0"],
        how: How::Killed,
    },
    Scene {
        name: "relay",
        about: "a plain TCP relay, which splices, between kubectl and the API server",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 0.2"],
        how: How::Relay,
    },
    Scene {
        name: "waiting",
        about: "a session that waits for input, measured every two seconds",
        oldest_kubectl: false,
        arguments: &["exec", "-i", "web", "-c", "web", "--", "sh", "-c", "cat; exit 3"],
        how: How::Waiting,
    },
    Scene {
        name: "stopped",
        about: "kubectl is stopped while output comes, measured every two seconds",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "yes; exit 0"],
        how: How::Stopped,
    },
    Scene {
        name: "crowd-200",
        about: "200 sessions at once",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 10"],
        how: How::Crowd(200),
    },
    Scene {
        name: "hosts",
        about: "six sessions at once, recorded whole and on each host by itself, to be merged",
        oldest_kubectl: false,
        arguments: &["exec", "-i", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 1"],
        how: How::Hosts(6),
    },
];

impl Record {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(unknown) = self.names.iter().find(|name| SCENES.iter().all(|scene| scene.name != **name)) {
            let names: Vec<&str> = SCENES.iter().map(|scene| scene.name).collect();
            bail!("no recording \"{unknown}\"\nhint: there are {}", names.join(", "));
        }
        let lab = Up::find()?;
        let program = tracer::build()?;
        fs::create_dir_all(&self.folder)?;
        let asked = |scene: &&Scene| self.names.is_empty() || self.names.iter().any(|name| name == scene.name);
        for scene in SCENES.iter().filter(asked) {
            scene.record(&lab, &program, &self.folder).with_context(|| format!("recording {}", scene.name))?;
        }
        Ok(())
    }
}

/// A child process. Dropping it kills the child.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Scene {
    fn record(&self, lab: &Up, program: &Path, folder: &Path) -> Result<()> {
        let work = tempfile::tempdir()?;
        let start = |name: &str, arguments: &[&str]| -> Result<(PathBuf, Tracer)> {
            let raw = work.path().join(name);
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            let tracer = Tracer::start_with(program, &raw, &arguments)?;
            Ok((raw, tracer))
        };
        let mut beside = Vec::new();
        let (raw, trace) = match self.how {
            How::Hosts(_) => {
                for (name, arguments) in &SIDES[1..] {
                    beside.push((*name, start(name, arguments)?));
                }
                start(SIDES[0].0, SIDES[0].1)?
            }
            How::Waiting | How::Stopped => start(self.name, &["--measure", "2s"])?,
            How::Plain | How::Terminal | How::Killed | How::Relay | How::Crowd(_) => start(self.name, &[])?,
        };
        let relay = if self.how == How::Relay {
            let mut relay = Running(lab.relay(RELAY)?.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?);
            wait_for_listener(&mut relay.0)?;
            Some(relay)
        } else {
            None
        };
        let kubectls = lab.kubectls();
        let version = if self.oldest_kubectl { kubectls.first() } else { kubectls.last() }.context("no kubectl")?;
        let mut kubectl = lab.kubectl(Some(version))?;
        if relay.is_some() {
            kubectl.args([&format!("--server=https://{RELAY}"), "--tls-server-name=192.168.205.10"]);
        }
        kubectl.args(self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let How::Crowd(many) | How::Hosts(many) = self.how {
            drop(kubectl);
            crowd(many, &trace, |number| {
                let mut kubectl = lab.kubectl(Some(version))?;
                let (script, others) = self.arguments.split_last().context("a script")?;
                let script = format!(": session-{number}; {script}");
                kubectl.args(others).arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                Ok(kubectl)
            })?;
        } else {
            self.play(kubectl, &trace)?;
        }
        drop(relay);
        let tracers = std::iter::once(&trace).chain(beside.iter().map(|(_, (_, trace))| trace));
        let own: Vec<String> = tracers.map(|trace| format!("\"tgid\":{},", trace.pid())).collect();
        trace.finish()?;
        let mut folder = folder.to_owned();
        let named = if lab.runtime() == "dockerd" { format!("docker-{}", self.name) } else { self.name.to_owned() };
        let mut recordings = vec![(named, raw)];
        // The format tests do not read recordings in these folders.
        match self.how {
            How::Hosts(_) => {
                folder.push("hosts");
                recordings[0].0 = SIDES[0].0.to_owned();
            }
            How::Crowd(_) => folder.push("crowds"),
            How::Plain | How::Terminal | How::Killed | How::Relay | How::Waiting | How::Stopped => {}
        }
        fs::create_dir_all(&folder)?;
        for (name, (raw, trace)) in beside {
            trace.finish()?;
            recordings.push((name.to_owned(), raw));
        }
        for (name, raw) in recordings {
            let typed = [(program.display().to_string(), "execpath"), (raw.display().to_string(), name.as_str())];
            let places = typed.into_iter().chain(lab.places()?);
            let text = places.fold(fs::read_to_string(&raw)?, |text, (place, name)| text.replace(&place, name));
            // Its own tracer may hold a pipe that all processes inherited.
            let is_other =
                |line: &str| line.contains("\"comm\":\"execpath") && !own.iter().any(|own| line.contains(own));
            ensure!(!text.lines().any(is_other), "a demo or another tracer ran beside it: try again when it has ended");
            let mut file = zstd::Encoder::new(File::create(folder.join(format!("{name}.jsonl.zst")))?, 19)?;
            for line in text.lines() {
                writeln!(file, "{}", without_surroundings(line)?)?;
            }
            file.finish()?;
            fs::write(folder.join(format!("{name}.toml")), self.card(&text, lab, version)?)?;
        }
        Ok(())
    }

    /// Runs kubectl to its end, and waits until its session is reported as closed.
    fn play(&self, mut kubectl: Command, trace: &Tracer) -> Result<()> {
        let ours = |line: &Value| line["session"]["hops"][0]["role"] == "kubectl";
        let closed = |line: &Value| ours(line) && line["type"] == "session.closed";
        if self.how == How::Terminal {
            let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
            grantpt(&terminal)?;
            unlockpt(&terminal)?;
            let path = ptsname(&terminal, Vec::new())?.into_string()?;
            let open = || File::options().read(true).write(true).open(&path);
            let running = Running(kubectl.stdin(open()?).stdout(open()?).stderr(open()?).spawn()?);
            drop(kubectl);
            let mut screen = Vec::new();
            // The end of a terminal is a read error.
            drop(File::from(terminal).read_to_end(&mut screen));
            trace.until(closed)?;
            drop(running);
            return Ok(());
        }
        if self.how == How::Waiting {
            kubectl.stdin(Stdio::piped());
        }
        let mut running = Running(kubectl.spawn()?);
        if matches!(self.how, How::Waiting | How::Stopped) {
            trace.until(|line| ours(line) && line["session"]["complete"] == true)?;
            let pid = Pid::from_child(&running.0);
            if self.how == How::Stopped {
                kill_process(pid, Signal::STOP)?;
            }
            std::thread::sleep(MEASURED);
            if self.how == How::Stopped {
                running.0.kill()?;
            }
            drop(running.0.stdin.take());
        }
        if self.how == How::Killed {
            trace.until(|line| ours(line) && line["session"]["complete"] == true)?;
            running.0.kill()?;
        }
        running.0.wait()?;
        let over = trace.until(closed)?.value;
        if self.how == How::Killed {
            let process = over["session"]["hops"].as_array().and_then(|hops| hops.last()).context("hops")?;
            let pid = process["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            kill_process(pid.context("a pid")?, Signal::KILL)?;
        }
        Ok(())
    }

    fn card(&self, recording: &str, lab: &Up, kubectl: &str) -> Result<String> {
        let header: Value = serde_json::from_str(recording.lines().next().context("a header")?)?;
        let kernel = header["host"]["kernel"].as_str().context("a kernel")?;
        let runtime = lab.runtime();
        let said =
            Command::new(runtime).arg("--version").output().with_context(|| format!("cannot start {runtime}"))?;
        let said = String::from_utf8(said.stdout)?;
        let said: Vec<&str> = said.split_whitespace().collect();
        let version = said.get(2).map_or("unknown", |version| version.trim_end_matches(','));
        let (about, kubernetes, command) = (self.about, lab.kubernetes(), self.arguments.join(" "));
        let name = self.name;
        Ok(format!(
            "# Made by `cargo xtask record {name}`.\nabout = \"{about}\"\nkernel = \"{kernel}\"\nruntime = \"{runtime} {version}\"\n\
             kubernetes = \"{kubernetes}\"\nkubectl = \"{kubectl}\"\ncommand = \"kubectl {command}\"\n"
        ))
    }
}

/// Removes the ancestors of this program from a line. The user of this task stands above each kubectl and does not
/// belong into a recording.
fn without_surroundings(line: &str) -> Result<Cow<'_, str>> {
    if !line.contains("\"ancestry\"") {
        return Ok(line.into());
    }
    let mut seen: Value = serde_json::from_str(line)?;
    let parents = seen.pointer_mut("/fact/ancestry/parents").and_then(Value::as_array_mut);
    if let Some(parents) = parents
        && let Some(own) = parents.iter().position(|above| above["comm"] == "xtask")
    {
        parents.truncate(own + 1);
    }
    Ok(seen.to_string().into())
}

/// Runs this many kubectls at once to their end, and waits until all their sessions are reported as closed.
fn crowd(many: usize, trace: &Tracer, kubectl: impl Fn(usize) -> Result<Command>) -> Result<()> {
    let running: Vec<Running> =
        (0..many).map(|number| Ok(Running(kubectl(number)?.spawn()?))).collect::<Result<_>>()?;
    for mut one in running {
        ensure!(one.0.wait()?.success(), "a kubectl failed");
    }
    let mut over = 0;
    trace.until(|line| {
        over += usize::from(line["type"] == "session.closed" && line["session"]["kind"] == "exec");
        over == many
    })?;
    Ok(())
}

/// Waits until the relay listens. Reads the kernel's table, since a connection would be recorded.
fn wait_for_listener(relay: &mut Child) -> Result<()> {
    let (_, port) = RELAY.rsplit_once(':').context("a port")?;
    let port: u16 = port.parse()?;
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        ensure!(relay.try_wait()?.is_none(), "the relay has ended");
        let process = procfs::process::Process::new(i32::try_from(relay.id())?)?;
        // Sockets of the relay's network namespace.
        let listens = |entry: &procfs::net::TcpNetEntry| entry.local_address.port() == port;
        if process.tcp().is_ok_and(|entries| entries.iter().any(listens)) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bail!("the relay does not listen")
}
