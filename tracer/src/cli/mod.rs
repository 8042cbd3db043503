//! The command line: arguments as typed (args), their meaning (resolve), and the outcome (exit, error).

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::{FromArgMatches, error::ErrorKind};
use serde::Serialize;

mod agent;
mod agent_args;
mod args;
mod complete;
mod config;
mod cut;
mod error;
mod examples;
mod exit;
mod follow;
mod input;
mod inspect;
mod man;
mod merge;
mod render;
mod replay;
mod resolve;
mod run;
mod screen;
mod shared_args;
mod stay;
mod stream;
mod values;

pub use error::{Failure, is_broken_pipe};
pub use exit::Exit;

use crate::{
    confine::{self, Denied, Settings},
    demo::{self, DemoError, Outcome, TracedSession},
    doctor,
    engine::{self, Flow},
    live,
    model::Degraded,
    record::{Reader, Written},
    redact::Redactor,
    schema,
    sink::phrases,
    source::snapshot::{self, Snapshot},
};
use args::{Cli, Command};
use error::{live_failure, named, nothing_seen, tell};

/// Runs the program, or a role of the demo if the demo started this process for one.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let name = arguments.first().and_then(|name| Path::new(name).file_name()?.to_str()).unwrap_or_default();
    let words: Vec<String> = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    demo::play(name, &words).unwrap_or_else(|| run(arguments).into())
}

/// Runs the program with these arguments. The first one is the program's name.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> Exit {
    match try_run(&arguments) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.tell();
            failure.exit
        }
    }
}

fn try_run(arguments: &[OsString]) -> Result<Exit, Failure> {
    let called = arguments.first().and_then(|name| Path::new(name).file_name()?.to_str()).unwrap_or_default();
    if called == args::COMPLETER {
        confine::enable(Settings { denied: denied(), has_children: false });
        return complete::print(arguments);
    }
    let plugin = called == args::PLUGIN;
    let name = if plugin { "kubectl execpath" } else { args::BINARY };
    let matches = args::command(name).try_get_matches_from(arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return show_or_fail(&error, name, arguments),
    };
    // A command that `run` starts has the rights of the caller.
    if !cli.no_sandbox && !matches!(cli.command, Command::Run(_)) {
        confine::enable(Settings { denied: denied(), has_children: matches!(cli.command, Command::Demo(_)) });
    }
    match cli.command {
        Command::Trace(args) => {
            log(cli.verbose);
            trace(*args, arguments, cli.verbose)
        }
        Command::Ls(args) => inspect::ls(*args),
        Command::Show(args) => inspect::show(*args),
        Command::Diagnose(args) => inspect::diagnose(*args),
        Command::Watch(args) => screen::watch(*args, arguments),
        Command::Record(args) if args.from.is_some() => {
            log(cli.verbose);
            let command = resolve::line(arguments, &Redactor::default());
            input::record(args.from.as_deref().unwrap_or(Path::new("")), &args.file, &args.since, command)
        }
        Command::Record(args) => {
            log(cli.verbose);
            confine::prepare();
            let stay = args.stay;
            match record(*args, arguments) {
                Err(failure) if stay && stay::is_permanent(failure.exit) => stay::stay(&failure),
                done => done,
            }
        }
        Command::Agent(_) => agent::run(arguments, log),
        Command::Replay(args) => replay::replay(*args, cli.verbose),
        Command::Merge(args) => merge::merge(&args, arguments),
        Command::Cut(args) => cut::cut(&args, arguments),
        Command::Render(args) => render::render(*args),
        Command::Run(args) => run::run(*args, arguments),
        Command::Demo(args) => {
            log(cli.verbose);
            confine::prepare();
            demo(args, arguments)
        }
        Command::Doctor(args) => {
            log(cli.verbose);
            doctor(&args)
        }
        Command::Schema => {
            confine::to_files(&[], &[]);
            let text = json(&schema::schema())?;
            io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::writing(&error))?;
            Ok(Exit::Done)
        }
        Command::Completions(args) => {
            confine::to_files(&[], &[]);
            let file = if plugin { args::PLUGIN } else { args::BINARY };
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut args::command(file), file, &mut script);
            io::stdout().write_all(&script).map_err(|error| Failure::writing(&error))?;
            Ok(Exit::Done)
        }
        Command::Man(args) => man::man(&args),
    }
}

/// Traces this host, or follows a cluster.
fn trace(args: args::Trace, arguments: &[OsString], verbose: u8) -> Result<Exit, Failure> {
    if args.from.is_some() {
        return follow::trace(args, verbose);
    }
    input::stream_options(&args.since, &[])?;
    confine::prepare();
    let once = args.once;
    let mut live = resolve::trace(args, arguments)?;
    resolve::detail(&mut live.setup.sinks, verbose);
    let shown = live::live(live).map_err(|error| live_failure(&error))?;
    // Ctrl-C ends cleanly with or without a session. A script checks for an elapsed `--duration` by the exit code.
    if once && shown.timed_out && shown.sessions == 0 { Err(nothing_seen()) } else { Ok(Exit::Done) }
}

/// Environment variable that has a system call outside of the list kill the process. For tests; it can only take rights away.
const STRICT: &str = "EXECPATH_STRICT_SANDBOX";

fn denied() -> Denied {
    if env::var_os(STRICT).is_some() { Denied::Kill } else { Denied::Error }
}

/// Records, and reports the size of the recording.
fn record(args: args::Record, arguments: &[OsString]) -> Result<Exit, Failure> {
    // `--since` reads.
    let option = args.since.since.map(|_| "--since");
    stream::needed(option, None)?;
    stream::needed(args.since.nats.given().or_else(|| args.queue.given()), [&*args.file])?;
    let file = stream::address(&args.file)?.map_or_else(|| named(&args.file), |address| address.to_string());
    let shown = live::live(resolve::record(args, arguments)?).map_err(|error| live_failure(&error))?;
    stream::undelivered(&shown);
    let Written { observations, bytes, .. } = shown.written.unwrap_or_default();
    let lost = phrases::losses(&shown.lost);
    let lost = if lost.is_empty() { "no event lost" } else { &lost };
    let (observations, sessions) =
        (phrases::counted(observations, "observation"), phrases::counted(shown.of, "session"));
    tell("recorded", &format!("{observations}, {sessions}, {}, {lost}: {file}", phrases::size(bytes)));
    Ok(Exit::Done)
}

/// Help and version are regular output; all else is an error.
fn show_or_fail(error: &clap::Error, name: &str, arguments: &[OsString]) -> Result<Exit, Failure> {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.print().map_err(|error| Failure::writing(&error))?;
        return Ok(Exit::Done);
    }
    if matches!(kind, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
        return Err(Failure::usage("no command given", format!("`{name} --help` lists the commands")));
    }
    let command = args::command(args::BINARY);
    let subcommand =
        arguments.iter().skip(1).find_map(|word| command.find_subcommand(word)).map(clap::Command::get_name);
    Err(error::from_clap(error, name, subcommand))
}

/// Runs the demo, or replays a recording of a real session if tracing is not permitted.
fn demo(args: args::Demo, arguments: &[OsString]) -> Result<Exit, Failure> {
    let (record, custom) = (args.record.is_some(), !args.command.is_empty());
    let allowed = demo::is_allowed();
    if !allowed && record {
        return Err(not_recorded());
    }
    let command = if custom { args.command.clone() } else { demo::COMMAND.map(str::to_owned).to_vec() };
    let limit = args.limit;
    let (live, drawn) = resolve::demo(args, arguments)?;
    if !allowed {
        return recorded(live.setup, custom);
    }
    tell("notice", MINIATURE);
    match demo::run(live, &command, limit).map_err(|error| demo_failure(&error))? {
        Outcome::Completed(seen) => tell_story(&seen, drawn).map(|()| Exit::Done),
        Outcome::Interrupted => Ok(Exit::Done),
        Outcome::NotAllowed(_) if record => Err(not_recorded()),
        Outcome::NotAllowed(live) => recorded(live.setup, custom),
    }
}

/// Notice before the demo: it names the difference from a real cluster.
const MINIATURE: &str = "a miniature with real processes and connections. Its proxies use threads, so links inside \
                         them are `strong`; in Kubernetes goroutines make them `exact`";

/// Notice before the built-in recording.
const RECORDED: &str = "tracing needs root: replaying a recording of a real `kubectl exec` on a small cluster";

fn recorded(setup: engine::Setup, custom: bool) -> Result<Exit, Failure> {
    tell("notice", &format!("{RECORDED}{}", if custom { "; your command was not run" } else { "" }));
    let name = Path::new("the built-in recording");
    let mut reader = Reader::new(Box::new(demo::RECORDING)).map_err(|error| input::open_failure(name, &error))?;
    engine::replay(&mut reader, setup, |_at| Flow::Continue).map_err(|error| Failure::writing(&error))?;
    Ok(Exit::Done)
}

fn not_recorded() -> Failure {
    Failure::new(
        Exit::NeedPrivilege,
        "`--record` needs root: without tracing, the demo only replays a recording",
        "run with sudo, or omit `--record` to see the built-in recording",
    )
}

fn tell_story(seen: &TracedSession, drawn: bool) -> Result<(), Failure> {
    if !drawn {
        return Ok(());
    }
    writeln!(io::stdout(), "\n{}", seen.summary()).map_err(|error| Failure::writing(&error))
}

fn demo_failure(error: &DemoError) -> Failure {
    let hint = match error {
        DemoError::Live(error) => return live_failure(error),
        DemoError::Setup(_) => "the demo needs a new network namespace, and space in the temporary directory",
        DemoError::Incomplete(_) => {
            "retry with a command that ends within a few seconds; `execpath doctor` checks this host"
        }
    };
    Failure::new(Exit::Unsupported, error.to_string(), hint)
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::writing(&error.into()))?;
    Ok(text + "\n")
}

/// Reports what this host allows. If nothing seems missing, a trial load confirms it.
fn doctor(args: &args::Doctor) -> Result<Exit, Failure> {
    resolve::host_files(&args.files)?;
    let (host, plan, degraded) = live::examine(args.kernel.road);
    let daemons = Snapshot::new(snapshot::Options::default()).daemons();
    let text = match args.output {
        args::Report::Text => doctor::render(&host, &plan, &degraded, &daemons),
        args::Report::Json => json(&doctor::View::new(&host, &plan, &degraded, &daemons))?,
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::writing(&error))?;
    Ok(match degraded.iter().find(|degraded| degraded.fatal) {
        None => Exit::Done,
        Some(degraded) if degraded.code == Degraded::NO_PRIVILEGE => Exit::NeedPrivilege,
        Some(_) => Exit::Unsupported,
    })
}

/// Sends the tracer's own log to stderr.
fn log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let started = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).without_time().try_init();
    // A program that uses this library may have set up a log of its own.
    drop(started);
}
