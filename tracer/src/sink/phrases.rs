//! Phrases for people, shared by several sinks.

use std::collections::BTreeMap;

use super::{Style, color::Color, view};
use crate::{
    escape,
    model::{
        AuditUser, BEHIND, BootTime, Client, Degraded, ExitReason, ExitStatus, Gap, GapCode, LATE_START, Role, Rung,
        RungState, Session, Span, State, UNANSWERED, Unit, errno_name, unit_of_loss,
    },
};

/// Longest name (of a pod, process …) shown in full. Kubernetes allows 253 characters; the start identifies a name.
pub(crate) const NAME: usize = 63;
/// Longest path and gap text.
pub(crate) const TEXT: usize = 300;
/// Most groups of a user that are listed.
const GROUPS: usize = 4;

/// Text of a gap, preceded by its position on the path.
pub(crate) fn gap_words(session: &Session, gap: &Gap) -> String {
    let text = escape::str(&gap.text, TEXT);
    let role = |index: usize| session.hops.get(index).map(|hop| hop.role.token());
    match gap.between.map(|(from, to)| (role(from), role(to), from == to)) {
        Some((Some(inside), _, true)) => format!("inside {inside}: {text}"),
        Some((Some(from), Some(to), false)) => format!("between {from} and {to}: {text}"),
        Some((Some(from), None, false)) => format!("below {from}: {text}"),
        Some(_) | None => text,
    }
}

/// Target of a session, as far as it is known.
pub(crate) fn into(session: &Session) -> Option<String> {
    let target = &session.target;
    let name = |name: &Option<String>| name.as_ref().map(|name| escape::str(name, NAME));
    if let Some(pod) = name(&target.pod) {
        let namespace = name(&target.namespace).map_or(String::new(), |namespace| namespace + "/");
        let container = name(&target.container).map_or(String::new(), |container| format!("/{container}"));
        return Some(format!("{namespace}{pod}{container}"));
    }
    // crictl and docker show twelve digits.
    target.container_id.as_ref().map(|id| format!("container {}", escape::str(id.get(..12).unwrap_or(id), NAME)))
}

/// User and parents of the client process, if the client runs on this host. A remote client is an address on the path.
pub(crate) fn who(session: &Session) -> Option<String> {
    let client = session.hops.first().filter(|hop| hop.role == Role::Client)?;
    let Client { uid, uid_name, login_uid, login_name, tty, parents, .. } = &session.client;
    let named = |what: &str, uid: u32, name: &Option<String>| match name {
        Some(name) => format!("{} ({what} {uid})", escape::str(name, NAME)),
        None => format!("{what} {uid}"),
    };
    let mut words: Vec<String> = uid.iter().map(|uid| named("uid", *uid, uid_name)).collect();
    words.extend(login_uid.filter(|login| Some(*login) != *uid).map(|login| named("login", login, login_name)));
    words.extend(tty.as_ref().map(|tty| escape::str(tty, NAME)));
    if let Some(parents) = parents.as_ref().filter(|parents| !parents.is_empty()) {
        let chain = parents.iter().rev().map(|above| &above.comm).chain([&client.process.comm]);
        words.push(chain.map(|comm| escape::text(comm.as_bytes(), NAME)).collect::<Vec<_>>().join(" → "));
    }
    (!words.is_empty()).then(|| words.join(" · "))
}

/// Address of the session's API server; without a port where only the host is known.
pub(crate) fn server(session: &Session) -> Option<String> {
    let (address, port) = session.server()?;
    Some(port.map_or_else(|| address.to_string(), |port| std::net::SocketAddr::new(address, port).to_string()))
}

/// Kubernetes user of the session, from the audit log.
pub(crate) fn user(session: &Session) -> Option<String> {
    let known = session.client.user.as_ref()?;
    let AuditUser { name, groups, impersonated, agent: _ } = &known.user;
    let mut text = escape::str(name, NAME);
    if let Some(other) = impersonated {
        text.push_str(&format!(" as {}", escape::str(other, NAME)));
    }
    // Every user is in this group, so that it identifies none.
    let groups: Vec<&String> = groups.iter().filter(|group| *group != "system:authenticated").collect();
    if !groups.is_empty() {
        let shown = groups.iter().take(GROUPS).map(|group| escape::str(group, NAME)).collect::<Vec<_>>().join(", ");
        text.push_str(&format!(" ({shown}{})", if groups.len() > GROUPS { ", …" } else { "" }));
    }
    Some(format!("{text}  {}: audit log", known.confidence.token()))
}

/// The command in at most `columns` columns; `None` if unknown.
pub(crate) fn command(session: &Session, columns: usize) -> Option<String> {
    let known = !session.command.is_empty();
    known.then(|| escape::command(&session.command, session.command_truncated, columns))
}

/// Lines for missing abilities, printed below the result.
pub(crate) fn degraded(style: Style, degraded: &[Degraded]) -> String {
    let told = degraded.iter().map(|one| {
        let (text, hint) = (escape::str(&one.text, TEXT), escape::str(&one.hint, TEXT));
        format!("\n{} {text} [{}]\n  hint: {hint}\n", Color::Doubt.paint(style, "!"), one.code)
    });
    told.collect()
}

/// Breaks text between words into lines of at most `width` columns.
pub(crate) fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if escape::columns(line) + 1 + escape::columns(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A count with its noun: `1 event`, `2 events`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Formats a number of bytes for people, in decimal units.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

/// One loss, reported on a line of its own.
pub(crate) fn loss(what: &str, count: u64) -> String {
    let name = escape::str(what, NAME);
    match what {
        LATE_START => format!(
            "the start took {} ({name}): earlier events may be missing, and links that depend on them are in doubt",
            lasted(Span::from_millis(count))
        ),
        BEHIND => format!(
            "records were read {} late ({name}): processes that ended meanwhile may lack names and links",
            lasted(Span::from_millis(count))
        ),
        UNANSWERED => format!(
            "{} about the state before the trace {} not answered in time ({name}): names and links may be missing",
            counted(count, "question"),
            if count == 1 { "was" } else { "were" }
        ),
        _ => format!("{} lost ({name}): the output from here on may be incomplete", counted(count, "event")),
    }
}

/// Summary of all losses of a run; empty without losses.
pub(crate) fn losses(lost: &BTreeMap<String, u64>) -> String {
    let events = lost.iter().filter(|(what, _)| unit_of_loss(what) == Unit::Events).map(|(_, count)| *count);
    let events = events.fold(0, u64::saturating_add);
    let mut said = Vec::new();
    if events > 0 {
        said.push(format!("{} lost", counted(events, "event")));
    }
    let delay = |what| lost.get(what).map(|count| lasted(Span::from_millis(*count)));
    said.extend(delay(LATE_START).map(|took| format!("start took {took}")));
    said.extend(delay(BEHIND).map(|late| format!("up to {late} behind")));
    said.join(", ")
}

/// Formats a duration for people.
pub(crate) fn lasted(span: Span) -> String {
    let millis = span.as_millis();
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis / 100 % 10),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Formats the duration of a part of a start for people: three digits, from microseconds on.
pub(crate) fn phase(span: Span) -> String {
    let micros = span.0 / 1_000;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{}.{:02} ms", micros / 1_000, micros / 10 % 100),
        10_000..100_000 => format!("{}.{} ms", micros / 1_000, micros / 100 % 10),
        _ => lasted(span),
    }
}

/// Stage at which an attempt failed or waits, with the reason; `None` for a session that reached its command.
pub(crate) fn stage(session: &Session) -> Option<String> {
    let attempt = session.attempt.as_ref()?;
    let is_over = session.state == State::Closed;
    let one = attempt.failed().or_else(|| attempt.waiting().filter(|_| !is_over))?;
    let to = one.address.map_or_else(String::new, |address| format!(" ({address})"));
    let why = match (one.errno, one.state) {
        (Some(errno), _) => format!(": {}", errno_name(errno).map_or_else(|| format!("errno {errno}"), str::to_owned)),
        (None, RungState::Failed) => ": connect(2) failed at once, or was given up".to_owned(),
        (None, _) => String::new(),
    };
    let waits = one.state == RungState::Waiting;
    Some(match (one.rung, one.state) {
        (Rung::Connected, _) if waits => format!("the API server{to} does not answer kubectl's SYN"),
        (Rung::Connected, _) => format!("kubectl could not connect to the API server{to}{why}"),
        (Rung::ApiserverAccepted, _) => "the API server has not accepted the connection".to_owned(),
        (Rung::KubeletDialled, RungState::Absent) => "the API server asked no kubelet for it".to_owned(),
        (Rung::KubeletDialled, _) if waits => format!("the kubelet{to} does not answer the API server's SYN"),
        (Rung::KubeletDialled, _) => format!("the API server could not connect to the kubelet{to}{why}"),
        (Rung::KubeletAccepted, _) => "the kubelet has not accepted the connection".to_owned(),
        (Rung::StreamDialled, RungState::Absent) => {
            "the kubelet answered, and connected to no stream of the runtime".to_owned()
        }
        (Rung::StreamDialled, _) if waits => format!("the runtime's stream port{to} does not answer the kubelet's SYN"),
        (Rung::StreamDialled, _) => format!("the kubelet could not connect to the runtime's stream port{to}{why}"),
        (Rung::Executed, _) => format!("the runtime could not start the command{why}"),
        (rung, _) => format!("it came no further than {}", rung.token()),
    })
}

/// Outcome of a closed session, and its colour.
pub(crate) fn outcome(session: &Session, now: BootTime) -> (Color, String) {
    let lasted = lasted(view::age(session, now));
    let is_started = session.exit.is_some_and(|exit| exit.reason != ExitReason::Unknown);
    if let Some(stage) = stage(session).filter(|_| !is_started) {
        let code = match session.client_exit() {
            Some(ExitStatus::Code(code)) => format!("; kubectl exited with code {code}"),
            Some(ExitStatus::Signal(signal)) => format!("; kubectl was killed by signal {signal}"),
            None => String::new(),
        };
        return (Color::Bad, format!("failed after {lasted}: {stage}{code}"));
    }
    let left = session.gaps.iter().any(|gap| gap.code == GapCode::ProcessLeftRunning);
    let why = if left { "its process is still running" } else { "exit status not known" };
    let unknown = || (Color::Doubt, format!("closed after {lasted}; {why}"));
    session.exit.map_or_else(unknown, |exit| match (exit.reason, exit.code, exit.signal) {
        (ExitReason::StartFailed, ..) => (Color::Bad, format!("the runtime could not start it; closed after {lasted}")),
        (_, Some(0), _) => (Color::Good, format!("exited with code 0 after {lasted}")),
        (_, Some(code), _) => (Color::Bad, format!("exited with code {code} after {lasted}")),
        (_, _, Some(signal)) => {
            (Color::Bad, format!("killed by signal {signal}{} after {lasted}", signal_name(signal)))
        }
        (ExitReason::Exited | ExitReason::Signalled | ExitReason::Unknown, None, None) => unknown(),
    })
}

/// Names of signals that end processes in practice. The numbers are equal on all supported architectures.
pub(crate) const fn signal_name(signal: u8) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_decimal_unit() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (1_990_000, "1.9 MB"), (12_345_678_901, "12.3 GB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn parts_of_a_start_have_three_digits() {
        for (nanos, text) in [
            (0, "0 µs"),
            (999_999, "999 µs"),
            (1_234_567, "1.23 ms"),
            (9_999_999, "9.99 ms"),
            (12_345_678, "12.3 ms"),
            (123_456_789, "123 ms"),
            (12_345_678_901, "12.3 s"),
        ] {
            assert_eq!(phase(Span(nanos)), text);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (millis, text) in [
            (0, "0 ms"),
            (412, "412 ms"),
            (12_345, "12.3 s"),
            (252_000, "4 min 12 s"),
            (7_380_000, "2 h 3 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(lasted(Span::from_millis(millis)), text);
        }
    }
}
