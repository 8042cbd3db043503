//! `ls`, `show` and `diagnose`: the present state, once or repeatedly.
#![expect(clippy::disallowed_methods, reason = "edge: waits between two looks")]

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    path::Path,
    thread,
    time::Duration,
};

use super::{
    args,
    error::{Failure, live_failure, named, tell},
    exit::Exit,
    input, replay,
    resolve::{self, Output},
};
use crate::{
    confine,
    engine::Status,
    inspect::{InspectOptions, Inspector},
    model::{Depth, SessionId, Severity, Verdict, matching},
    sink::{self, LISTS, SHOWN, diagnosis::Detail},
    source::audit::AuditLog,
};

/// Clears the screen and moves the cursor to its top.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

pub(super) fn ls(args: args::Ls) -> Result<Exit, Failure> {
    let outputs = resolve::outputs(&args.output, LISTS)?;
    each(args.look, args.then, args.watch, &outputs, Depth::Brief, |_seen| Ok(()))
}

pub(super) fn show(args: args::Show) -> Result<Exit, Failure> {
    let outputs = resolve::explained(resolve::outputs(&args.output, SHOWN)?, args.explain, SHOWN)?;
    let args::Show { id, mut look, then, watch, .. } = args;
    of_any_kind(&mut look);
    let recorded = !then.from.is_empty();
    each(look, then, watch, &outputs, Depth::Whole, |seen| select(seen, &id, recorded))
}

/// A session named on the command line may be of any kind.
fn of_any_kind(look: &mut args::Look) {
    if look.filter.kind == args::Kind::People {
        look.filter.kind = args::Kind::All;
    }
}

/// Takes two samples and prints the diagnosis.
pub(super) fn diagnose(args: args::Diagnose) -> Result<Exit, Failure> {
    let args::Diagnose { id, all, output, interval, then, mut look } = args;
    let style = resolve::style(look.color);
    of_any_kind(&mut look);
    let recorded = !then.from.is_empty();
    input::stream_options(&then.since, &then.from)?;
    let mut seen = if recorded {
        let reader = input::open(&then.from, &then.since, &[])?;
        // A named session may be closed: its outcome is a verdict, too.
        replay::then(reader, then.at, resolve::silent(look.filter, look.privacy), id.is_some())?
    } else {
        twice(look, interval)?
    };
    if let Some(id) = &id {
        select_all(&mut seen, id, recorded)?;
    }
    let Status { header, report } = &mut seen;
    let shown: BTreeSet<&SessionId> = report.sessions.iter().map(|session| &session.id).collect();
    let is_shown = |verdict: &Verdict| match &verdict.session {
        Some(session) => shown.contains(session),
        // Verdicts without a session are left out if one session is named.
        None => id.is_none(),
    };
    report.diagnosis.verdicts.retain(is_shown);
    report.diagnosis.over.retain(is_shown);
    let mut out = io::stdout().lock();
    match output {
        args::Report::Text => {
            // A named session is printed in any health.
            let detail = if all || id.is_some() { Detail::Every } else { Detail::Trouble };
            sink::diagnosis::text(&mut out, style, header, report, &report.diagnosis, detail)
        }
        args::Report::Json => sink::diagnosis::json(&mut out, header, &report.diagnosis),
    }
    .map_err(|error| Failure::writing(&error))?;
    let found = report.diagnosis.all().any(|verdict| verdict.severity == Severity::Fault);
    Ok(if found { Exit::FaultFound } else { Exit::Done })
}

/// Takes two samples `interval` apart: anything that moves in between is not stuck.
fn twice(look: args::Look, interval: Duration) -> Result<Status, Failure> {
    confine::prepare();
    let audit_log = resolve::audit_log(&look.audit)?;
    confine::to_look(None, confine::Net::default());
    let mut looker = Inspector::begin(resolve::look(look)?, audit_log).map_err(|error| live_failure(&error))?;
    looker.measure(Depth::Whole);
    if io::stderr().is_terminal() {
        let seconds = interval.as_secs_f32();
        tell("notice", &format!("second sample in {seconds} s, to tell traffic from a standstill"));
    }
    thread::sleep(interval);
    looker.measure(Depth::Whole);
    Ok(looker.status())
}

/// Scans, narrows down and prints; repeatedly with `--watch`.
fn each(
    args: args::Look,
    then: args::Then,
    watch: args::Watch,
    outputs: &[Output],
    depth: Depth,
    narrow: impl Fn(&mut Status) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let (watch, color) = (watch.watch, args.color);
    if watch.is_some() && outputs.iter().any(|output| output.goes_to_a_file()) {
        return Err(Failure::usage("`--watch` writes only to stdout", "omit `=PATH`, or omit `--watch`"));
    }
    input::stream_options(&then.since, &then.from)?;
    if !then.from.is_empty() {
        let written: Vec<&Path> = outputs.iter().filter_map(|output| output.path.as_deref()).collect();
        let reader = input::open(&then.from, &then.since, &written)?;
        let mut sinks = resolve::open(outputs, color)?;
        // A named session of a recording may be closed.
        let at_all = depth == Depth::Whole;
        let mut seen = replay::then(reader, then.at, resolve::silent(args.filter, args.privacy), at_all)?;
        narrow(&mut seen)?;
        sink::render(&mut sinks, &seen.header, &seen.report).map_err(|error| Failure::writing(&error))?;
        return Ok(Exit::Done);
    }
    confine::prepare();
    let audit = args::Audit { audit_log: args.audit.audit_log.clone() };
    let look = resolve::look(args)?;
    let mut sinks = resolve::open(outputs, color)?;
    confine::to_look(None, confine::Net::default());
    loop {
        let mut seen = now(look.clone(), resolve::audit_log(&audit)?, depth)?;
        narrow(&mut seen)?;
        if watch.is_some() && io::stdout().is_terminal() {
            io::stdout().write_all(CLEAR).map_err(|error| Failure::writing(&error))?;
        }
        sink::render(&mut sinks, &seen.header, &seen.report).map_err(|error| Failure::writing(&error))?;
        let Some(pause) = watch else { return Ok(Exit::Done) };
        thread::sleep(pause);
        sinks = resolve::open(outputs, color)?;
    }
}

fn now(look: InspectOptions, audit_log: Option<AuditLog>, depth: Depth) -> Result<Status, Failure> {
    let mut looker = Inspector::begin(look, audit_log).map_err(|error| live_failure(&error))?;
    looker.measure(depth);
    Ok(looker.status())
}

/// Keeps only the session that `id` names; an error if it names several.
fn select(seen: &mut Status, id: &str, recorded: bool) -> Result<(), Failure> {
    let meant = matching(&seen.report.sessions, id);
    if meant.len() > 1 {
        let names = meant.iter().filter_map(|index| seen.report.sessions.get(*index));
        let names: Vec<&str> = names.map(|session| &*session.id.0).take(MAX_NAMED).collect();
        let more = if meant.len() > names.len() { ", …" } else { "" };
        return Err(Failure::new(
            Exit::NothingMatched,
            format!("`{}` matches {} sessions", named(id.as_ref()), meant.len()),
            format!("use one of: {}{more}", names.join(", ")),
        ));
    }
    select_all(seen, id, recorded)
}

/// Keeps only the sessions that `id` names.
fn select_all(seen: &mut Status, id: &str, recorded: bool) -> Result<(), Failure> {
    let meant = matching(&seen.report.sessions, id);
    match meant[..] {
        [_, ..] => {
            let mut index = 0;
            seen.report.sessions.retain(|_| {
                index += 1;
                meant.contains(&(index - 1))
            });
            Ok(())
        }
        [] if recorded => Err(Failure::new(
            Exit::NothingMatched,
            format!("no session matches `{}`", named(id.as_ref())),
            "`execpath replay` shows the sessions of the recording; use an id, a pid, a pod or NAMESPACE/POD",
        )),
        [] => Err(Failure::new(
            Exit::NothingMatched,
            format!("no open session matches `{}`", named(id.as_ref())),
            match seen.report.sessions.len() {
                0 => "no session is open; `execpath trace` shows new ones".to_owned(),
                _ => "`execpath ls` lists open sessions; use an id, a pid, a pod or NAMESPACE/POD".to_owned(),
            },
        )),
    }
}

/// Most ids in one line of a message.
const MAX_NAMED: usize = 12;
