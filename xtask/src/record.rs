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

use crate::lab::RunningLab;
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

struct Recipe {
    name: &'static str,
    /// Description, one sentence.
    about: &'static str,
    /// True for the oldest kubectl, false for the newest.
    oldest_kubectl: bool,
    arguments: &'static [&'static str],
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
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
const HOST_TRACERS: [(&str, &[&str]); 4] = [
    ("all", &[]),
    ("client", &["--netns", "lab-c"]),
    ("master", &["--netns", "lab-m"]),
    ("worker", &["--netns", "lab-w"]),
];

/// Time for three samples, two of which show a standstill.
const SAMPLING_TIME: std::time::Duration = std::time::Duration::from_secs(7);

const RECIPES: [Recipe; 9] = [
    Recipe {
        name: "terminal",
        about: "a terminal, by a kubectl that tries WebSocket first, is refused, and falls back to SPDY",
        oldest_kubectl: false,
        arguments: &["exec", "-it", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 0.2"],
        mode: Mode::Terminal,
    },
    Recipe {
        name: "exit-3",
        about: "stdin, by an old kubectl, and an exit code",
        oldest_kubectl: true,
        arguments: &["exec", "-i", "web", "-c", "side", "--", "sh", "-c", "cat; exit 3"],
        mode: Mode::Plain,
    },
    Recipe {
        name: "start-failed",
        about: "a command that does not exist",
        oldest_kubectl: false,
        arguments: &["exec", "own-net", "-c", "own-net", "--", "no-such-command"],
        mode: Mode::Plain,
    },
    Recipe {
        name: "kubectl-killed",
        about: "kubectl is killed, its process goes on",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "sleep 600; exit 0"],
        mode: Mode::Killed,
    },
    Recipe {
        name: "relay",
        about: "a plain TCP relay, which splices, between kubectl and the API server",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 0.2"],
        mode: Mode::Relay,
    },
    Recipe {
        name: "waiting",
        about: "a session that waits for input, measured every two seconds",
        oldest_kubectl: false,
        arguments: &["exec", "-i", "web", "-c", "web", "--", "sh", "-c", "cat; exit 3"],
        mode: Mode::Waiting,
    },
    Recipe {
        name: "stopped",
        about: "kubectl is stopped while output comes, measured every two seconds",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "yes; exit 0"],
        mode: Mode::Stopped,
    },
    Recipe {
        name: "crowd-200",
        about: "200 sessions at once",
        oldest_kubectl: false,
        arguments: &["exec", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 10"],
        mode: Mode::Crowd(200),
    },
    Recipe {
        name: "hosts",
        about: "six sessions at once, recorded whole and on each host by itself, to be merged",
        oldest_kubectl: false,
        arguments: &["exec", "-i", "web", "-c", "web", "--", "sh", "-c", "echo hello; sleep 1"],
        mode: Mode::Hosts(6),
    },
];

impl Record {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(unknown) = self.names.iter().find(|name| RECIPES.iter().all(|recipe| recipe.name != **name)) {
            let names: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
            bail!("no recording \"{unknown}\"\nhint: available: {}", names.join(", "));
        }
        let lab = RunningLab::find()?;
        let program = tracer::build()?;
        fs::create_dir_all(&self.folder)?;
        let is_selected = |recipe: &&Recipe| self.names.is_empty() || self.names.iter().any(|name| name == recipe.name);
        for recipe in RECIPES.iter().filter(is_selected) {
            recipe.record(&lab, &program, &self.folder).with_context(|| format!("recording {}", recipe.name))?;
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

impl Recipe {
    fn record(&self, lab: &RunningLab, program: &Path, folder: &Path) -> Result<()> {
        let work = tempfile::tempdir()?;
        let start = |name: &str, arguments: &[&str]| -> Result<(PathBuf, Tracer)> {
            let raw = work.path().join(name);
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            let tracer = Tracer::start_with(program, &raw, &arguments)?;
            Ok((raw, tracer))
        };
        // Start the tracers before the relay and kubectl, whose connections they must see.
        let mut beside = Vec::new();
        let (raw, trace) = match self.mode {
            Mode::Hosts(_) => {
                for (name, arguments) in &HOST_TRACERS[1..] {
                    beside.push((*name, start(name, arguments)?));
                }
                start(HOST_TRACERS[0].0, HOST_TRACERS[0].1)?
            }
            Mode::Waiting | Mode::Stopped => start(self.name, &["--measure", "2s"])?,
            Mode::Plain | Mode::Terminal | Mode::Killed | Mode::Relay | Mode::Crowd(_) => start(self.name, &[])?,
        };
        let relay = if self.mode == Mode::Relay {
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
        if let Mode::Crowd(many) | Mode::Hosts(many) = self.mode {
            drop(kubectl);
            run_crowd(many, &trace, |number| {
                let mut kubectl = lab.kubectl(Some(version))?;
                let (script, others) = self.arguments.split_last().context("no script")?;
                let script = format!(": session-{number}; {script}");
                kubectl.args(others).arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                Ok(kubectl)
            })?;
        } else {
            self.run_kubectl(kubectl, &trace)?;
        }
        drop(relay);
        let tracers = std::iter::once(&trace).chain(beside.iter().map(|(_, (_, trace))| trace));
        let own: Vec<String> = tracers.map(|trace| format!("\"tgid\":{},", trace.pid())).collect();
        trace.finish()?;
        let mut folder = folder.to_owned();
        let named = if lab.runtime() == "dockerd" { format!("docker-{}", self.name) } else { self.name.to_owned() };
        let mut recordings = vec![(named, raw)];
        // The format tests do not read recordings in these folders.
        match self.mode {
            Mode::Hosts(_) => {
                folder.push("hosts");
                recordings[0].0 = HOST_TRACERS[0].0.to_owned();
            }
            Mode::Crowd(_) => folder.push("crowds"),
            Mode::Plain | Mode::Terminal | Mode::Killed | Mode::Relay | Mode::Waiting | Mode::Stopped => {}
        }
        fs::create_dir_all(&folder)?;
        for (name, (raw, trace)) in beside {
            trace.finish()?;
            recordings.push((name.to_owned(), raw));
        }
        for (name, raw) in recordings {
            let paths = [(program.display().to_string(), "execpath"), (raw.display().to_string(), name.as_str())];
            let text = portable(&raw, paths.into_iter().chain(lab.replacements()?), &own)?;
            let mut file = zstd::Encoder::new(File::create(folder.join(format!("{name}.jsonl.zst")))?, 19)?;
            for line in text.lines() {
                writeln!(file, "{}", without_ancestors(line)?)?;
            }
            file.finish()?;
            fs::write(folder.join(format!("{name}.toml")), self.card(&text, lab, version)?)?;
        }
        Ok(())
    }

    /// Runs kubectl to its end, and waits until its session is reported as closed.
    fn run_kubectl(&self, mut kubectl: Command, trace: &Tracer) -> Result<()> {
        let has_kubectl = |line: &Value| line["session"]["hops"][0]["role"] == "kubectl";
        let closed = |line: &Value| has_kubectl(line) && line["type"] == "session.closed";
        if self.mode == Mode::Terminal {
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
        if self.mode == Mode::Waiting {
            kubectl.stdin(Stdio::piped());
        }
        let mut running = Running(kubectl.spawn()?);
        if matches!(self.mode, Mode::Waiting | Mode::Stopped) {
            trace.until(|line| has_kubectl(line) && line["session"]["complete"] == true)?;
            let pid = Pid::from_child(&running.0);
            if self.mode == Mode::Stopped {
                kill_process(pid, Signal::STOP)?;
            }
            std::thread::sleep(SAMPLING_TIME);
            if self.mode == Mode::Stopped {
                running.0.kill()?;
            }
            drop(running.0.stdin.take());
        }
        if self.mode == Mode::Killed {
            trace.until(|line| has_kubectl(line) && line["session"]["complete"] == true)?;
            running.0.kill()?;
        }
        running.0.wait()?;
        let last = trace.until(closed)?.value;
        if self.mode == Mode::Killed {
            let process =
                last["session"]["hops"].as_array().and_then(|hops| hops.last()).context("the session has no hops")?;
            let pid = process["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            kill_process(pid.context("no pid")?, Signal::KILL)?;
        }
        Ok(())
    }

    fn card(&self, recording: &str, lab: &RunningLab, kubectl: &str) -> Result<String> {
        let header: Value = serde_json::from_str(recording.lines().next().context("no header")?)?;
        let kernel = header["host"]["kernel"].as_str().context("no kernel version")?;
        let runtime = lab.runtime();
        let output =
            Command::new(runtime).arg("--version").output().with_context(|| format!("cannot start {runtime}"))?;
        let output = String::from_utf8(output.stdout)?;
        let words: Vec<&str> = output.split_whitespace().collect();
        let version = words.get(2).map_or("unknown", |version| version.trim_end_matches(','));
        let (about, kubernetes, command) = (self.about, lab.kubernetes(), self.arguments.join(" "));
        let name = self.name;
        Ok(format!(
            "# Made by `cargo xtask record {name}`.\nabout = \"{about}\"\nkernel = \"{kernel}\"\nruntime = \"{runtime} {version}\"\n\
             kubernetes = \"{kubernetes}\"\nkubectl = \"{kubectl}\"\ncommand = \"kubectl {command}\"\n"
        ))
    }
}

/// Reads a recording and replaces the paths of this machine. Fails if another tracer ran at the same time. `own` are the
/// pids of the own tracers, as recordings contain them: a tracer may hold a pipe that all processes inherited.
fn portable<'a>(raw: &Path, paths: impl Iterator<Item = (String, &'a str)>, own: &[String]) -> Result<String> {
    let text = paths.fold(fs::read_to_string(raw)?, |text, (path, name)| text.replace(&path, name));
    let is_other = |line: &str| line.contains("\"comm\":\"execpath") && !own.iter().any(|own| line.contains(own));
    ensure!(!text.lines().any(is_other), "a demo or another tracer was running: try again after its end");
    Ok(text)
}

/// Removes the ancestors of this program from a line. The user of this task stands above each kubectl and does not
/// belong into a recording.
fn without_ancestors(line: &str) -> Result<Cow<'_, str>> {
    if !line.contains("\"ancestry\"") {
        return Ok(line.into());
    }
    let mut observation: Value = serde_json::from_str(line)?;
    let parents = observation.pointer_mut("/fact/ancestry/parents").and_then(Value::as_array_mut);
    if let Some(parents) = parents
        && let Some(own) = parents.iter().position(|parent| parent["comm"] == "xtask")
    {
        parents.truncate(own + 1);
    }
    Ok(observation.to_string().into())
}

/// Runs this many kubectls at once to their end, and waits until all their sessions are reported as closed.
fn run_crowd(many: usize, trace: &Tracer, kubectl: impl Fn(usize) -> Result<Command>) -> Result<()> {
    let running: Vec<Running> =
        (0..many).map(|number| Ok(Running(kubectl(number)?.spawn()?))).collect::<Result<_>>()?;
    for mut one in running {
        ensure!(one.0.wait()?.success(), "a kubectl failed");
    }
    let mut closed = 0;
    trace.until(|line| {
        closed += usize::from(line["type"] == "session.closed" && line["session"]["kind"] == "exec");
        closed == many
    })?;
    Ok(())
}

/// Waits until the relay listens. Reads the kernel's table, since a connection would be recorded.
fn wait_for_listener(relay: &mut Child) -> Result<()> {
    let (_, port) = RELAY.rsplit_once(':').context("no port")?;
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
