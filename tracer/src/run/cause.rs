//! From the report at the end of a command to the cause of its failure, in one line.

use super::child::Status;
use crate::{
    escape,
    model::{ExitReason, GapCode, Kind, Report, Role, Session, Severity, Span, Verdict},
    sink::phrases::{self, NAME, TEXT},
};

/// A fault that was over longer than this before the end did not cause the end. Faults are sampled every two seconds.
const RECENT: Span = Span::from_secs(5);

/// What the tracer could see of the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// Time by which the command had started before events were observed; `None` if observation began first.
    pub(super) missed: Option<Span>,
    /// What kept the tracer from seeing everything: a missing privilege, lost events.
    pub(super) limits: Option<String>,
}

/// The conclusion about an ended command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conclusion {
    /// The cause in one line, escaped for a terminal.
    pub(super) cause: String,
    /// Set if the client reported success although the command of its session had not ended.
    pub(super) lie: bool,
}

/// Concludes from the report at the end. `pid` is the command that the front ran: a client, or an ancestor of clients.
pub(super) fn conclude(report: &Report, pid: u32, status: Status, sight: &Sight) -> Conclusion {
    let own = own_sessions(report, pid);
    let lost = !report.totals.lost.is_empty();
    if let Some(session) = own.iter().copied().find(|session| status.is_success() && !lost && is_unfinished(session)) {
        return Conclusion { cause: unfinished(session), lie: true };
    }
    let cause = match own[..] {
        [] => no_session(sight),
        [one] => of_session(report, one, sight),
        [.., last] => {
            // A script ran several clients: the last one that failed ended the script, if it checks for failures.
            let failed = own.iter().rev().copied().find(|session| known_cause(report, session).is_some());
            of_session(report, failed.unwrap_or(last), sight)
        }
    };
    Conclusion { cause, lie: false }
}

/// Sessions whose client is the process with this pid or, if there are none, a descendant of it. Ordered by opening.
fn own_sessions(report: &Report, pid: u32) -> Vec<&Session> {
    let client =
        |session: &Session| session.hops.first().filter(|hop| hop.role == Role::Client).map(|hop| hop.task.tgid);
    let direct: Vec<&Session> = report.sessions.iter().filter(|session| client(session) == Some(pid)).collect();
    // A request (`kubectl get` and the pod's look-up before an exec) explains nothing beside a session.
    let sessions: Vec<&Session> = direct.iter().copied().filter(|session| session.kind != Kind::Request).collect();
    if !sessions.is_empty() {
        return sessions;
    }
    if !direct.is_empty() {
        return direct;
    }
    let descends = |session: &&Session| {
        client(session).is_some()
            && session.client.parents.iter().flat_map(|parents| parents.iter()).any(|above| above.task.tgid == pid)
    };
    report.sessions.iter().filter(|session| session.kind != Kind::Request).filter(descends).collect()
}

/// True if the command of an exec was started, and had not ended at the time of the report.
fn is_unfinished(session: &Session) -> bool {
    let runs_a_command = matches!(session.kind, Kind::Exec | Kind::Cp);
    let process = session.hops.iter().find(|hop| hop.role == Role::Process);
    let runs = process.is_some_and(|hop| hop.exit.is_none());
    runs_a_command && runs && session.exit.is_none_or(|exit| exit.reason == ExitReason::Unknown)
}

fn unfinished(session: &Session) -> String {
    let pid = session.hops.iter().find(|hop| hop.role == Role::Process).map_or(0, |hop| hop.task.tgid);
    format!("the client reported success, but the command has not ended: pid {pid} still runs{}", place(session))
}

fn of_session(report: &Report, session: &Session, sight: &Sight) -> String {
    if let Some(cause) = known_cause(report, session) {
        return format!("{cause}{}", place(session));
    }
    let why = match session.gaps.first() {
        Some(gap) => phrases::gap_words(session, gap),
        None if session.exit.is_some_and(|exit| exit.code == Some(0)) => {
            "the command exited with code 0, and the client failed afterwards".to_owned()
        }
        None => match session.hops.last() {
            Some(last) => format!("the path was seen up to {}, without a fault", last.role.token()),
            None => "the session has no known process".to_owned(),
        },
    };
    format!("no cause found: {why}{}{}", limits(sight), place(session))
}

/// The cause, if it is certain: a fault that lasted until the end, or the end of the command.
fn known_cause(report: &Report, session: &Session) -> Option<String> {
    if let Some(fault) = last_fault(report, session) {
        return Some(format!("{} {}", fault.code, fault.name));
    }
    let exit = session.exit;
    match exit.map(|exit| (exit.reason, exit.code, exit.signal)) {
        Some((ExitReason::StartFailed, ..)) => {
            let command = phrases::command(session, NAME).map_or(String::new(), |command| format!(" `{command}`"));
            Some(format!("the runtime could not start the command{command}"))
        }
        Some((_, Some(code), _)) if code != 0 => Some(format!("the command exited with code {code}")),
        Some((_, _, Some(signal))) => {
            Some(format!("the command was killed by signal {signal}{}", phrases::signal_name(signal)))
        }
        _ if session.gaps.iter().any(|gap| gap.code == GapCode::ProcessLeftRunning) || is_unfinished(session) => {
            let pid = session.hops.iter().find(|hop| hop.role == Role::Process).map(|hop| hop.task.tgid);
            let pid = pid.or(session.command_pid).map_or(String::new(), |pid| format!(" as pid {pid}"));
            Some(format!("the client ended before the command: the command still runs{pid}"))
        }
        _ => None,
    }
}

/// The latest fault of the session that lasted until shortly before the end.
fn last_fault<'a>(report: &'a Report, session: &Session) -> Option<&'a Verdict> {
    let end = session.closed_at.unwrap_or_else(|| report.now());
    let is_recent = |verdict: &&Verdict| verdict.until.is_none_or(|until| until.plus(RECENT) >= end);
    let own = report.diagnosis.of(Some(&session.id)).into_iter();
    own.filter(|verdict| verdict.severity == Severity::Fault).rfind(is_recent)
}

fn no_session(sight: &Sight) -> String {
    let why = match (&sight.limits, sight.missed) {
        (Some(limits), _) => escape::str(limits, TEXT),
        (None, Some(missed)) => {
            format!(
                "the tracer was ready {} after the start, too late; `--wait` starts the command afterwards",
                phrases::lasted(missed)
            )
        }
        (None, None) => "the command opened no session that reached a container".to_owned(),
    };
    format!("no cause found: {why}")
}

fn limits(sight: &Sight) -> String {
    sight.limits.as_ref().map_or(String::new(), |limits| format!("; {}", escape::str(limits, TEXT)))
}

/// Target and id of a session, for the end of a line.
fn place(session: &Session) -> String {
    let id = escape::str(&session.id.0, NAME);
    phrases::into(session).map_or_else(|| format!(" ({id})"), |into| format!(" ({into}, {id})"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Hop, ProcessInfo, SessionExit, SessionId, Target, TaskKey};

    const CLIENT: u32 = 100;

    fn hop(role: Role, pid: u32) -> Hop {
        Hop { role, task: TaskKey::from_ticks(pid, 1), process: Arc::new(ProcessInfo::default()), exit: None }
    }

    fn session(kind: Kind, exit: Option<SessionExit>) -> Session {
        let target = Target { pod: Some("web".to_owned()), ..Target::default() };
        Session {
            kind,
            target: Arc::new(target),
            exit,
            hops: vec![hop(Role::Client, CLIENT), hop(Role::Process, 200)],
            complete: true,
            ..Session::sample()
        }
    }

    fn concluded(sessions: Vec<Session>, pid: u32, status: Status) -> Conclusion {
        let report = Report { sessions, ..Report::default() };
        conclude(&report, pid, status, &Sight::default())
    }

    fn exited(code: u8) -> Option<SessionExit> {
        Some(SessionExit { code: Some(code), signal: None, reason: ExitReason::Exited })
    }

    #[test]
    fn success_of_an_unfinished_command_is_a_lie() {
        let unfinished = concluded(vec![session(Kind::Exec, None)], CLIENT, Status::Code(0));
        assert!(unfinished.lie);
        assert!(unfinished.cause.ends_with("pid 200 still runs (web, s-1)"), "{}", unfinished.cause);
        for (kind, exit, status) in [
            (Kind::Exec, exited(0), Status::Code(0)),
            (Kind::Exec, None, Status::Code(1)),
            // The container's first process goes on after an attach.
            (Kind::Attach, None, Status::Code(0)),
        ] {
            assert!(!concluded(vec![session(kind, exit)], CLIENT, status).lie, "{kind:?} {status:?}");
        }
        let mut ended = session(Kind::Exec, None);
        for hop in &mut ended.hops {
            hop.exit = Some(crate::model::ExitStatus::Code(0));
        }
        assert!(!concluded(vec![ended], CLIENT, Status::Code(0)).lie);
        assert!(!concluded(vec![session(Kind::Exec, None)], 7, Status::Code(0)).lie, "another client's session");
        let mut report = Report { sessions: vec![session(Kind::Exec, None)], ..Report::default() };
        report.totals.lost.insert("ring".to_owned(), 1);
        assert!(
            !conclude(&report, CLIENT, Status::Code(0), &Sight::default()).lie,
            "the end may be among the lost events"
        );
    }

    #[test]
    fn cause_is_the_command_s_own_end_if_it_ended() {
        for (exit, text) in [
            (exited(3), "the command exited with code 3 (web, s-1)"),
            (
                Some(SessionExit { code: None, signal: Some(9), reason: ExitReason::Signalled }),
                "the command was killed by signal 9 (SIGKILL) (web, s-1)",
            ),
            (
                Some(SessionExit { code: None, signal: None, reason: ExitReason::StartFailed }),
                "the runtime could not start the command (web, s-1)",
            ),
            (None, "the client ended before the command: the command still runs as pid 200 (web, s-1)"),
        ] {
            assert_eq!(concluded(vec![session(Kind::Exec, exit)], CLIENT, Status::Code(1)).cause, text);
        }
    }

    #[test]
    fn failure_of_a_script_is_that_of_its_last_failed_client() {
        let of = |pid: u32, code: u8, id: &str| {
            let mut session = session(Kind::Exec, exited(code));
            session.id = SessionId(id.into());
            if let Some(client) = session.hops.first_mut() {
                client.task = TaskKey::from_ticks(pid, 1);
            }
            let above = crate::model::Ancestor { task: TaskKey::from_ticks(50, 1), comm: "sh".into(), uid: None };
            session.client.parents = Some(Arc::from([above]));
            session
        };
        let all = vec![of(100, 0, "s-1"), of(101, 4, "s-2"), of(102, 0, "s-3")];
        let cause = concluded(all, 50, Status::Code(4)).cause;
        assert_eq!(cause, "the command exited with code 4 (web, s-2)");
    }

    #[test]
    fn missing_session_is_explained_by_what_could_be_seen() {
        let none = |sight: Sight| conclude(&Report::default(), CLIENT, Status::Code(1), &sight).cause;
        assert!(none(Sight::default()).contains("opened no session"));
        let late = Sight { missed: Some(Span::from_millis(250)), limits: None };
        assert!(none(late).contains("the tracer was ready 250 ms after the start"));
    }
}
