//! `agent`: records, and serves metrics, until SIGTERM; SIGHUP reads the configuration anew.
//!
//! A host that cannot be traced does not end the agent: a pod would start again and again, with the same result. The agent then says so
//! in a log line and a metric, and waits.

use std::{
    ffi::OsString,
    io::{self, Write},
    sync::Arc,
};

use clap::{ArgMatches, FromArgMatches, parser::ValueSource};

use super::{
    agent_args::{Agent, Export},
    args::{self, Cli, Command},
    config,
    error::{Failure, from_clap, live_failure, tell},
    exit::Exit,
    resolve, stream,
};
use crate::{
    agent::{Notify, Requests},
    confine,
    export::Exporter,
    live::{self, Live, LiveError},
    model::Degraded,
};

/// Name of the command.
const NAME: &str = "agent";

/// The options of the agent, from the command line and its file.
///
/// # Errors
/// The file or an option is not valid.
fn load(arguments: &[OsString]) -> Result<Agent, Failure> {
    let command = || args::command(args::BINARY);
    let parse = |words: &[OsString]| {
        command().try_get_matches_from(words).map_err(|error| from_clap(&error, args::BINARY, Some(NAME)))
    };
    let matches = parse(arguments)?;
    let own = agent(&matches)?;
    let Some(path) = &own.config else { return checked(own) };
    let given = |key: &str| {
        let sub = matches.subcommand_matches(NAME);
        let id = key.replace('-', "_");
        // `verbose` belongs to all commands.
        [Some(&matches), sub].into_iter().flatten().any(|matches| {
            matches.try_contains_id(&id).unwrap_or(false) && matches.value_source(&id) == Some(ValueSource::CommandLine)
        })
    };
    let mut all = command();
    all.build();
    let of_agent = all.find_subcommand(NAME).ok_or_else(|| Failure::usage("no such command", ""))?;
    let words = config::words(path, of_agent, given)?;
    let whole: Vec<OsString> = arguments.iter().cloned().chain(words).collect();
    parse(&whole)
        .and_then(|whole| checked(agent(&whole)?))
        .map_err(|failure| Failure { what: format!("{}: {}", path.display(), failure.what), ..failure })
}

/// Refuses options that would do nothing.
fn checked(agent: Agent) -> Result<Agent, Failure> {
    stream::needed(agent.nats.given().or_else(|| agent.queue.given()), agent.record.as_deref())?;
    stream::without_rotation(agent.rotate.is_some(), agent.record.as_deref())?;
    Ok(agent)
}

fn agent(matches: &ArgMatches) -> Result<Agent, Failure> {
    let cli = Cli::from_arg_matches(matches).map_err(|error| from_clap(&error, args::BINARY, Some(NAME)))?;
    let Command::Agent(mut agent) = cli.command else { return Err(Failure::usage("this is not the agent", "")) };
    agent.verbosity = cli.verbose;
    Ok(*agent)
}

/// Runs the agent.
pub(super) fn run(arguments: &[OsString], log: impl FnOnce(u8)) -> Result<Exit, Failure> {
    let mut agent = load(arguments)?;
    if agent.record.is_none() && agent.export == Export::default() {
        return Err(Failure::usage(
            "the agent has nothing to do: it neither records nor exports",
            "give `--record`, `--metrics` or `--otlp`, or such a key in the file of `--config`",
        ));
    }
    if agent.check {
        writeln!(io::stdout(), "the configuration is valid").map_err(|error| Failure::writing(&error))?;
        return Ok(Exit::Done);
    }
    log(agent.verbosity);
    confine::prepare();
    let exporter = resolve::exporter(&agent.export)?;
    if let Some(address) = exporter.as_ref().and_then(Exporter::address) {
        tell(NAME, &format!("metrics: http://{address}/metrics"));
    }
    let notify = Arc::new(Notify::from_env());
    let words = arguments.to_vec();
    let is_valid = move || load(&words).map_err(|failure| complain(&failure)).is_ok();
    let requests = Requests::on_signals(is_valid).map_err(|error| Failure::writing(&error))?;
    let mut live = resolve::agent(&agent, arguments, exporter.as_ref())?;
    loop {
        live.end = Some(requests.arm().map_err(|error| Failure::writing(&error))?);
        trace(live, exporter.as_ref(), &notify, &requests)?;
        if !requests.reload() {
            notify.stopping();
            if let Some(exporter) = &exporter {
                exporter.drain();
            }
            return Ok(Exit::Done);
        }
        notify.reloading();
        (agent, live) = reload(agent, arguments, exporter.as_ref())?;
        tell(NAME, "the configuration was read again");
    }
}

/// Traces until a signal. A host that cannot be traced is reported, and waited on.
fn trace(live: Live, exporter: Option<&Exporter>, notify: &Arc<Notify>, requests: &Requests) -> Result<(), Failure> {
    let net = live.net;
    let to_notify = Arc::clone(notify);
    let ready = move || {
        to_notify.ready("tracing");
        tell(NAME, "tracing: the probes are attached");
    };
    let degraded = match live::live(Live { ready: Some(Box::new(ready)), ..live }) {
        Ok(shown) => {
            stream::undelivered(&shown);
            return Ok(());
        }
        Err(error) => unsupported(&error).ok_or_else(|| live_failure(&error))?,
    };
    confine::to_look(None, net);
    tell(NAME, &format!("not tracing: this host does not allow it ({}): {}", degraded.code, degraded.text));
    tell("hint", &degraded.hint);
    if let Some(exporter) = exporter {
        exporter.refuse(&degraded);
        exporter.start().map_err(|error| Failure::writing(&error))?;
    }
    notify.ready(&format!("not tracing: {}", degraded.code));
    let end = requests.arm().map_err(|error| Failure::writing(&error))?;
    live::wait(Some(end)).map_err(|error| Failure::writing(&error))
}

/// The reason why no session can be traced on this host, if it is one that only another kernel, or its settings, would remove. A missing
/// capability is a fault of the unit or pod, which should fail.
fn unsupported(error: &LiveError) -> Option<Degraded> {
    let failure = live_failure(error);
    match error {
        LiveError::Host(degraded) => (degraded.code != Degraded::NO_PRIVILEGE).then(|| degraded.clone()),
        LiveError::Btf(_) | LiveError::Load(_) => {
            let code = if matches!(error, LiveError::Btf(_)) { "no-btf" } else { "refused" };
            Some(Degraded { code: code.to_owned(), text: failure.what, hint: failure.hint, fatal: true })
        }
        LiveError::NetNs(..) | LiveError::Io(_) => None,
    }
}

/// The new configuration, and its trace. What it cannot change is reported; one that cannot be used leaves the old one in force.
fn reload(old: Agent, arguments: &[OsString], exporter: Option<&Exporter>) -> Result<(Agent, Live), Failure> {
    match load(arguments).and_then(|new| resolve::agent(&new, arguments, exporter).map(|live| (new, live))) {
        Ok((new, live)) => {
            if new.export != old.export {
                tell("notice", "changed addresses of exports take effect after a restart: sockets are opened once");
            }
            Ok((Agent { export: old.export, ..new }, live))
        }
        Err(failure) => {
            complain(&failure);
            let live = resolve::agent(&old, arguments, exporter)?;
            Ok((old, live))
        }
    }
}

fn complain(failure: &Failure) {
    tell(NAME, &format!("the old configuration stays: {}", failure.what));
    tell("hint", &failure.hint);
}
