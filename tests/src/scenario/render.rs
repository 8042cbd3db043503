//! Sessions in the format of scenarios.

use execpath::model::{ExitStatus, KubeUser, RawText, Report, RungSeen, Session, Span, State, TaskKey};

use super::{clean, short_id};

/// Sessions in order of opening, in the format of scenarios.
#[must_use]
pub fn render(report: &Report, cluster: u32) -> String {
    let text: Vec<String> = report.sessions.iter().map(|session| render_session(session, cluster)).collect();
    clean(if text.is_empty() { "nothing".to_owned() } else { text.join("\n") }.as_str())
}

/// One session in the format of scenarios.
#[must_use]
pub fn render_session(session: &Session, cluster: u32) -> String {
    let mut lines = Vec::new();
    let mut head = vec!["session".to_owned()];
    head.push(session.exec_id.as_deref().map_or_else(|| session.id.0.to_string(), short_id));
    head.push(session.kind.token().to_owned());
    head.push(if session.state == State::Open { "open" } else { "closed" }.to_owned());
    head.push(if session.complete { "complete" } else { "incomplete" }.to_owned());
    head.push(session.confidence().map_or("-", |confidence| confidence.token()).to_owned());
    if session.preexisting {
        head.push("older".to_owned());
        // Younger than the sessions that exist from the first tick on.
        if session.opened_at.0 > TaskKey::from_ticks(1, 1).start_ns() {
            head.push(format!("since {}", Span(session.opened_at.0).as_millis()));
        }
    }
    if session.merged_into.is_some() {
        head.push("merged".to_owned());
    }
    if session.tty == Some(true) {
        head.push("tty".to_owned());
    }
    lines.push(head.join(" "));
    if !session.command.is_empty() {
        let words: Vec<_> = session.command.iter().map(RawText::to_text).collect();
        lines.push(format!("  command {}", words.join(" ")));
    }
    if let Some(pod) = &session.target.pod {
        lines.push(format!("  pod {pod}"));
    }
    if let Some(KubeUser { user, audit_id, confidence }) = session.client.user.as_deref() {
        let other = user.impersonated.as_ref().map(|other| format!(" as {other}")).unwrap_or_default();
        let id = audit_id.as_ref().and_then(|id| id.split('-').next()).unwrap_or("-");
        lines.push(format!("  user {}{other} {} {id}", user.name, confidence.token()));
    }
    if let Some(parents) = session.client.parents.as_ref().filter(|parents| !parents.is_empty()) {
        let chain: Vec<_> = parents.iter().rev().map(|above| above.comm.to_text()).collect();
        let name = session.client.uid_name.as_deref().unwrap_or("-");
        lines.push(format!("  client {name} {}", chain.join(" ")));
    }
    for (index, hop) in session.hops.iter().enumerate() {
        let pid = hop.task.tgid - 100_000 * cluster;
        let again = if hop.task.start_ticks == 1 { String::new() } else { format!("/{}", hop.task.start_ticks) };
        let exit = match hop.exit {
            None => String::new(),
            Some(ExitStatus::Code(code)) => format!(" code {code}"),
            Some(ExitStatus::Signal(signal)) => format!(" signal {signal}"),
        };
        lines.push(format!("  {} {pid}{again}{exit}", hop.role.token()));
        for link in session.links.iter().filter(|link| link.from == index) {
            let evidence: Vec<_> = link.evidence.iter().map(|evidence| evidence.token()).collect();
            lines.push(format!("    {} {} {}", link.kind.token(), link.confidence.token(), evidence.join(" ")));
        }
    }
    for (side, address) in &session.beyond {
        lines.push(format!("  beyond {side} {address}"));
    }
    for gap in &session.gaps {
        let between = gap.between.map(|(from, to)| format!(" {from} {to}")).unwrap_or_default();
        lines.push(format!("  gap {}{between}", gap.code.token()));
    }
    let attempt = session.attempt.as_ref().filter(|attempt| attempt.failed().or(attempt.waiting()).is_some());
    if let Some(attempt) = attempt {
        let rung = |one: Option<&RungSeen>| one.map_or("-", |one| one.rung.token());
        let (failed, waiting) = (attempt.failed(), attempt.waiting());
        let how = failed.or(waiting).map_or("-", |one| one.state.token());
        let errno = failed.and_then(|one| one.errno).map(|errno| format!(" {errno}")).unwrap_or_default();
        let refused = if attempt.was_start_refused { " refused" } else { "" };
        lines.push(format!("  attempt {} {} {how}{errno}{refused}", rung(attempt.reached()), rung(failed.or(waiting))));
    }
    if let Some(failed) = session.attempt.as_ref().and_then(|attempt| attempt.forward_failed) {
        let errno = failed.errno.map(|errno| format!(" {errno}")).unwrap_or_default();
        lines.push(format!("  forward {} failed{errno}", failed.address));
    }
    if let Some(exit) = &session.exit {
        let code = exit.code.map(|code| format!(" {code}")).unwrap_or_default();
        let signal = exit.signal.map(|signal| format!(" {signal}")).unwrap_or_default();
        let killed = session.killed.as_ref().map(|killed| {
            let stopped = if killed.stopped.is_some() { " stopped" } else { "" };
            format!(" by {} {}{stopped}", killed.signal.by.token(), killed.signal.comm.to_text())
        });
        lines.push(format!("  exit {}{code}{signal}{}", exit.reason.token(), killed.unwrap_or_default()));
    }
    lines.join("\n")
}
