//! The command line as typed. Its meaning is resolve.rs's business.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::ValueHint};

pub(super) use super::shared_args::{Audit, HostFiles, Kernel, Places, Privacy, Queue, Since};
use super::{
    agent_args::{Agent, Export},
    examples::EXAMPLES,
    shared_args::OF_THIS_HOST,
    values::{Moment, Server, duration, interval, measure, moment, speed},
};
use crate::{
    record::Rotate,
    render::PICTURES,
    sink::{FORMATS, Format, LISTS, SHOWN},
};

/// Name of the binary, and its name as a kubectl plugin.
pub(super) const BINARY: &str = "execpath";
pub(super) const PLUGIN: &str = "kubectl-execpath";
/// Name under which kubectl asks for completions of the plugin.
pub(super) const COMPLETER: &str = "kubectl_complete-execpath";

/// Width of help in columns on wide terminals, and without a terminal.
const HELP_WIDTH: usize = 100;

/// See the path of `kubectl exec`: kubectl, API server, kubelet, runtime, shim, runc, process.
///
/// Shows the evidence for each link between two processes, and the reason for each gap.
#[derive(Debug, Parser)]
#[command(name = "execpath", version, max_term_width = HELP_WIDTH, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Show the parts of each start (`trace`, `replay`), and log the tracer's own activity on stderr; repeat for more
    /// detail.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Common options")]
    pub(super) verbose: u8,
    /// Keep all capabilities and system calls, to find out whether giving them up causes a failure.
    #[arg(long, global = true, hide = true)]
    pub(super) no_sandbox: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show sessions as they open, change and close.
    Trace(Box<Trace>),
    /// List open sessions.
    Ls(Box<Ls>),
    /// Show one session: each hop, and both ends of each connection with their counters.
    Show(Box<Show>),
    /// Find faults in sessions: the place, the evidence, and the actions to take.
    Diagnose(Box<Diagnose>),
    /// Watch sessions on a live screen, or browse a recording: the path of the selected session and its traffic.
    Watch(Box<Screen>),
    /// Record observations to a file, without output.
    Record(Box<Record>),
    /// Record and serve metrics for weeks, from one configuration file: for a systemd unit or a DaemonSet.
    Agent(Box<Agent>),
    /// Show the sessions of a recording, as `trace` did live.
    Replay(Box<Replay>),
    /// Merge recordings of several hosts into one, with paths from client to node.
    Merge(Merge),
    /// Cut one session out of a recording, with what it rests on.
    Cut(Cut),
    /// Draw the sessions of a recording: an interactive page, a drawing, Mermaid, Perfetto.
    Render(Box<Render>),
    /// Run a kubectl command untouched, and report why it failed.
    Run(Box<Run>),
    /// Run and trace a miniature of the path on this machine, without a cluster.
    Demo(Demo),
    /// Check this host: capabilities, missing requirements, and how to fix them.
    Doctor(Doctor),
    /// Print the JSON Schema of all JSON output.
    Schema,
    /// Print shell completions.
    Completions(Completions),
    /// Print a manual page. Packages contain these pages.
    #[command(hide = true)]
    Man(Man),
}

#[derive(Debug, Args)]
pub(super) struct Trace {
    #[command(flatten)]
    pub(super) output: Output,
    /// Follow the stream of a cluster, `nats://HOST[:PORT]/CLUSTER`, instead of this host: all its hosts.
    #[arg(
        long,
        value_name = "nats://…",
        conflicts_with_all = ["record", "metrics", "otlp", "ring_bytes"],
        conflicts_with_all = OF_THIS_HOST
    )]
    pub(super) from: Option<PathBuf>,
    /// Record observations to this file, for `replay`; a name ending in `.zst` compresses. Never overwrites.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) record: Option<PathBuf>,
    /// Start a new recording file at this size or age, and keep this many: `100MB,24h,keep=7`.
    #[arg(long, value_name = "WHEN", requires = "record")]
    pub(super) rotate: Option<Rotate>,
    /// Stop after the first session that is complete or closed.
    #[arg(long)]
    pub(super) once: bool,
    /// Stop after this time: `30s`, `5m`, `1h 30m`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Sample open sessions at this interval (2s–30s) and record the samples, so that `replay` can diagnose.
    #[arg(long, value_name = "TIME", value_parser = measure)]
    pub(super) measure: Option<Duration>,
    #[command(flatten)]
    pub(super) since: Since,
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    pub(super) privacy: Privacy,
    #[command(flatten)]
    pub(super) places: Places,
    #[command(flatten)]
    pub(super) audit: Audit,
    #[command(flatten)]
    pub(super) export: Export,

    /// Size of the kernel's buffer in bytes, a power of two. For tests with lost records.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(super) ring_bytes: Option<u32>,
    #[command(flatten)]
    pub(super) kernel: Kernel,
}

#[derive(Debug, Args)]
pub(super) struct Record {
    /// Output file: a name ending in `.zst` compresses, `-` is stdout. Never overwrites. `nats://HOST[:PORT]/CLUSTER`
    /// publishes to a message stream instead; see docs/cluster.md.
    #[arg(value_name = "FILE|nats://…", value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// Record the stream of a cluster, `nats://HOST[:PORT]/CLUSTER`, instead of this host: all its hosts, up to now.
    #[arg(
        long,
        value_name = "nats://…",
        conflicts_with_all = [
            "rotate",
            "queue",
            "duration",
            "measure",
            "stay",
            "no_args",
            "redact",
            "no_redact_defaults",
            "netns",
            "apiserver_port",
            "kubelet_port",
            "runtime_socket",
            "no_memory",
            "host_root",
            "proc",
            "sys",
            "btf",
            "audit_log",
            "metrics",
            "otlp",
        ]
    )]
    pub(super) from: Option<PathBuf>,
    /// Start a new file at this size or age, and keep this many: `100MB,24h,keep=7`. Files are named FILE with a number
    /// before the extension.
    #[arg(long, value_name = "WHEN")]
    pub(super) rotate: Option<Rotate>,
    /// Stop after this time: `30s`, `5m`, `1h 30m`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Sample open sessions at this interval (2s–30s).
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = measure)]
    pub(super) measure: Duration,
    /// If this host cannot be traced, report the reason and wait for SIGTERM instead of failing. For service managers that would
    /// restart the program in vain.
    #[arg(long)]
    pub(super) stay: bool,
    #[command(flatten)]
    pub(super) since: Since,
    #[command(flatten)]
    pub(super) queue: Queue,
    #[command(flatten)]
    pub(super) privacy: Privacy,
    #[command(flatten)]
    pub(super) places: Places,
    #[command(flatten)]
    pub(super) audit: Audit,
    #[command(flatten)]
    pub(super) export: Export,
    #[command(flatten)]
    pub(super) kernel: Kernel,
}

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Output format and file (`-` is stdout); repeatable.
    #[arg(short, long, value_name = "FORMAT[=PATH]", default_value = "table", help_heading = "Common options")]
    pub(super) output: Vec<OsString>,
    #[command(flatten)]
    pub(super) watch: Watch,
    #[command(flatten)]
    pub(super) then: Then,
    #[command(flatten)]
    pub(super) look: Look,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Session: its id or a unique prefix, a pid on its path, `POD`, `NAMESPACE/POD`,
    /// `NAMESPACE/POD/CONTAINER`, or `POD/CONTAINER` in the namespace `default`.
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Output format and file (`-` is stdout); repeatable.
    #[arg(short, long, value_name = "FORMAT[=PATH]", default_value = "tree", help_heading = "Common options")]
    pub(super) output: Vec<OsString>,
    /// Explain each step in plain words, with commands to check it by hand: `explain` instead of `tree`.
    #[arg(long, help_heading = "Common options")]
    pub(super) explain: bool,
    #[command(flatten)]
    pub(super) watch: Watch,
    #[command(flatten)]
    pub(super) then: Then,
    #[command(flatten)]
    pub(super) look: Look,
}

#[derive(Debug, Args)]
pub(super) struct Diagnose {
    /// Sessions (see `show`); all that match are diagnosed. Default: all sessions, plus leftovers of closed ones.
    #[arg(value_name = "ID")]
    pub(super) id: Option<String>,
    /// Print every session. Default: those with a fault or in doubt, and the number of the others.
    #[arg(short, long)]
    pub(super) all: bool,
    /// Output format: `text` for people, `json` for programs.
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Common options")]
    pub(super) output: Report,
    /// Time between the two samples (at least 2s): traffic in between rules out a standstill.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = interval, conflicts_with = "from")]
    pub(super) interval: Duration,
    #[command(flatten)]
    pub(super) then: Then,
    #[command(flatten)]
    pub(super) look: Look,
}

#[derive(Debug, Args)]
pub(super) struct Screen {
    /// Recording to browse. Default: live sessions.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) file: Option<PathBuf>,
    /// Follow the stream of a cluster, `nats://HOST[:PORT]/CLUSTER`, instead of this host: all its hosts.
    #[arg(
        long,
        value_name = "nats://…",
        conflicts_with = "file",
        conflicts_with_all = OF_THIS_HOST
    )]
    pub(super) from: Option<PathBuf>,
    /// Sample open sessions at this interval (2s–30s); traffic is shown by these samples.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = measure)]
    pub(super) measure: Duration,
    #[command(flatten)]
    pub(super) since: Since,
    #[command(flatten)]
    pub(super) look: Look,

    /// The key `!` panics. For tests of the terminal after a panic.
    #[arg(long, hide = true)]
    pub(super) panics: bool,
}

/// Format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Report {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Repeat at this interval until Ctrl-C.
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = duration,
        num_args = 0..=1,
        default_missing_value = "2s",
        conflicts_with = "from"
    )]
    pub(super) watch: Option<Duration>,
}

/// Options that `ls`, `show`, `diagnose` and `watch` have in common.
#[derive(Debug, Args)]
pub(super) struct Look {
    /// When to use colours.
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Common options")]
    pub(super) color: Color,
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    pub(super) privacy: Privacy,
    #[command(flatten)]
    pub(super) places: Places,
    #[command(flatten)]
    pub(super) audit: Audit,
}

/// Options that select a recording and a moment.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recordings")]
pub(super) struct Then {
    /// Read a recording instead of this host; repeatable for its parts. `nats://HOST[:PORT]/CLUSTER` reads the stream
    /// of a cluster: all its hosts.
    #[arg(
        long,
        value_name = "FILE|nats://…",
        value_hint = ValueHint::FilePath,
        conflicts_with_all = [
            "netns",
            "apiserver_port",
            "kubelet_port",
            "runtime_socket",
            "no_memory",
            "audit_log",
            "host_root",
            "proc",
            "sys",
            "btf",
        ]
    )]
    pub(super) from: Vec<PathBuf>,
    /// Moment in the recording (default: its end): `2026-11-21T22:14:03Z`, or `+90s` after the start.
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "from")]
    pub(super) at: Option<Moment>,
    #[command(flatten)]
    pub(super) since: Since,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Recording, compressed or not; `-` is stdin. Several files: parts of one recording. `nats://HOST[:PORT]/CLUSTER`:
    /// the stream of a cluster.
    #[arg(value_name = "FILE|nats://…", value_hint = ValueHint::FilePath, required = true)]
    pub(super) file: Vec<PathBuf>,
    /// Replay at this multiple of the recorded speed: `1`, `10`, `0.5`. Default: as fast as possible.
    #[arg(long, value_name = "FACTOR", value_parser = speed, conflicts_with = "at")]
    pub(super) speed: Option<f64>,
    /// List the sessions open at this moment, in the formats of `ls`: `2026-11-21T22:14:03Z`, or `+90s` after the
    /// start.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) at: Option<Moment>,
    #[command(flatten)]
    pub(super) since: Since,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    pub(super) privacy: Privacy,
}

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Recordings of one host each; list the parts of a recording one by one. Times follow the first one's clock.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required = true, num_args = 2..)]
    pub(super) file: Vec<PathBuf>,
    /// Output file: a name ending in `.zst` compresses, `-` is stdout. Never overwrites.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Cut {
    /// Recording, compressed or not; several files: parts of one recording.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required = true)]
    pub(super) file: Vec<PathBuf>,
    /// Session (see `show`).
    #[arg(value_name = "ID", required = true)]
    pub(super) id: String,
    /// Output file: a name ending in `.zst` compresses. Never overwrites.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Render {
    /// Recording, compressed or not; `-` is stdin. `nats://HOST[:PORT]/CLUSTER`: the stream of a cluster.
    #[arg(value_name = "FILE|nats://…", value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// Session (see `show`). Default: all sessions.
    #[arg(value_name = "ID")]
    pub(super) id: Option<String>,
    /// Picture format and file (`-` is stdout); repeatable.
    #[arg(short, long, value_name = "FORMAT[=PATH]", required = true, help_heading = "Common options")]
    pub(super) output: Vec<OsString>,
    #[command(flatten)]
    pub(super) since: Since,
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    pub(super) privacy: Privacy,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Write a recording to this file if the command fails; a name ending in `.zst` compresses. Never overwrites.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) record: Option<PathBuf>,
    /// Exit with 125 if kubectl reports success although its command has not ended.
    #[arg(long)]
    pub(super) fail_on_lie: bool,
    /// Start the command when the tracer is ready, at most ten seconds later. Default: start at once; the first moments of
    /// the command may then be missed.
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) privacy: Privacy,
    #[command(flatten)]
    pub(super) places: Places,
    #[command(flatten)]
    pub(super) audit: Audit,
    /// Command to run: `kubectl exec …`, or a script that runs it.
    #[arg(last = true, required = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    #[command(flatten)]
    pub(super) output: Output,
    /// Record observations to this file, for `replay`; a name ending in `.zst` compresses. Never overwrites.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) record: Option<PathBuf>,
    /// Time limit of the whole demo. The miniature itself takes a second, most of it the sleep of its command. For machines that are much slower than usual, such as emulated ones.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s", hide = true)]
    pub(super) limit: Duration,
    #[command(flatten)]
    pub(super) kernel: Kernel,
    /// Command to run at the end of the path instead of an echo. It runs on this machine with your rights, for a few
    /// seconds at most.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Output format: `text` for people, `json` for programs.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(super) output: Report,
    #[command(flatten)]
    pub(super) files: HostFiles,
    #[command(flatten)]
    pub(super) kernel: Kernel,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell.
    pub(super) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Command whose page to print. Default: the page of the program, which lists the commands.
    #[arg(value_name = "COMMAND")]
    pub(super) of: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Output {
    /// Output format and file (`-` is stdout); repeatable.
    #[arg(short, long, value_name = "FORMAT[=PATH]", default_value = "tree", help_heading = "Common options")]
    pub(super) output: Vec<OsString>,
    /// Explain each step in plain words, with commands to check it by hand: `explain` instead of `tree`.
    #[arg(long, help_heading = "Common options")]
    pub(super) explain: bool,
    /// When to use colours.
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Common options")]
    pub(super) color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Filter {
    /// Only sessions into pods of this namespace. Default: all namespaces.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// Sessions into pods of all namespaces: the default.
    #[arg(short = 'A', long, overrides_with = "namespace")]
    pub(super) all_namespaces: bool,
    /// Only sessions into this pod.
    #[arg(long, value_name = "NAME")]
    pub(super) pod: Option<String>,
    /// Only sessions into containers of this name.
    #[arg(short, long, value_name = "NAME")]
    pub(super) container: Option<String>,
    /// Only sessions through the API server at this address, if a host sees several clusters: `ls -o wide` lists them.
    #[arg(long, value_name = "IP[:PORT]")]
    pub(super) server: Option<Server>,
    /// Kind of session.
    #[arg(long, default_value = "people")]
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Sessions of users: all but probes, starts and requests.
    People,
    /// kubectl exec.
    Exec,
    /// kubectl attach, kubectl run -it.
    Attach,
    /// kubectl debug.
    Debug,
    /// kubectl cp.
    Cp,
    /// kubectl port-forward.
    PortForward,
    /// kubectl logs.
    Logs,
    /// docker exec, ctr task exec, crictl exec.
    Local,
    /// Exec probes and hooks of the kubelet.
    Probe,
    /// The start of a pod: its sandbox, then its containers.
    Start,
    /// kubectl get, create and the like: from kubectl to the API server and etcd.
    Request,
    /// All kinds.
    All,
}

/// The command line under the name it was called by. `name` is shown in help, and completions use it for the file.
pub(super) fn command(name: &'static str) -> clap::Command {
    use clap::CommandFactory;
    let formats = |formats: &[(&str, &str)]| {
        let widest = formats.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<String> = formats.iter().map(|(name, about)| format!("{name:<widest$}  {about}")).collect();
        format!("Formats:\n  {}", lines.join("\n  "))
    };
    let of_sinks = |formats: &[Format]| formats.iter().map(|format| (format.name, format.about)).collect::<Vec<_>>();
    let mut command = Cli::command().bin_name(name);
    for (of, text) in EXAMPLES {
        let text = text.replace("{bin}", name);
        command = match *of {
            "" => command.after_help(text),
            "trace" | "replay" | "demo" | "ls" | "show" | "render" => {
                let formats = formats(&match *of {
                    "ls" => of_sinks(LISTS),
                    "show" => of_sinks(SHOWN),
                    "render" => PICTURES.iter().map(|picture| (picture.name, picture.about)).collect(),
                    _ => of_sinks(FORMATS),
                });
                command.mut_subcommand(of, |sub| sub.after_help(format!("{formats}\n\n{text}")))
            }
            _ => command.mut_subcommand(of, |sub| sub.after_help(text)),
        };
    }
    command
}
