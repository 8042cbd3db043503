//! Compares each failure with what was reported of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use super::kinds::{Client, Expected, Kind};
use super::make::Made;
use crate::lab::truth::reported::{Exit, Reported, Session};

/// Longest time from the client's end to the report.
const PROMPT: Duration = Duration::from_secs(1);

/// Codes of faults by session, from a diagnosis of the recording.
pub(super) type Faults = BTreeMap<String, Vec<String>>;

/// Result for one kind.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) made: usize,
    pub(super) right: usize,
    pub(super) missing: usize,
    pub(super) late: usize,
    /// Right ones whose last report has the client's exit.
    pub(super) exits: usize,
    /// One message for each wrong report.
    pub(super) wrong: Vec<String>,
    /// Times from each client's end to the right report, sorted.
    pub(super) delays: Vec<Duration>,
}

impl Row {
    pub(super) fn of(kind: &Kind, made: &[Made], reported: &Reported, faults: &Faults) -> Self {
        let mut row = Self { made: made.len(), ..Self::default() };
        for one in made {
            match judge(kind, one, reported, faults) {
                Ok(Some(Told { delay, has_exit })) => {
                    row.right += 1;
                    row.exits += usize::from(has_exit);
                    row.late += usize::from(delay > PROMPT);
                    row.delays.push(delay);
                }
                Ok(None) => row.missing += 1,
                Err(why) => row.wrong.push(format!("{}: {why}", one.token)),
            }
        }
        row.delays.sort_unstable();
        row
    }

    /// True if every failure was made and reported as it must be, in time.
    pub(super) fn is_right(&self) -> bool {
        self.right == self.made && self.made > 0 && self.late == 0
    }

    /// The delay that this share of the reports does not exceed.
    pub(super) fn delay(&self, percent: usize) -> Option<Duration> {
        let rank = (self.delays.len() * percent).div_ceil(100);
        self.delays.get(rank.checked_sub(1)?).copied()
    }
}

/// A right report.
struct Told {
    /// Time from the client's end to the first line with this stage.
    delay: Duration,
    /// True if the last report has the client's exit.
    has_exit: bool,
}

/// Returns the first right report; `None` if nothing was reported.
fn judge(kind: &Kind, made: &Made, reported: &Reported, faults: &Faults) -> Result<Option<Told>, String> {
    let Expected { exit, says, fault, .. } = &kind.expected;
    let ended = &made.ended;
    if exit.is_some_and(|code| ended.status.code() != Some(code)) || !says.split('|').any(|it| ended.said.contains(it))
    {
        return Err(format!("not made: kubectl {}: {}", ended.status, ended.said));
    }
    let of_client: Vec<&(u64, Session)> = reported.reports.iter().filter(|(_, session)| is_of(session, made)).collect();
    let last: BTreeMap<&str, &Session> = of_client.iter().map(|(_, session)| (session.id.as_str(), session)).collect();
    let whole: Vec<&&Session> = last.values().filter(|session| session.merged_into.is_none()).collect();
    let [session] = whole.as_slice() else {
        let ids: BTreeSet<&str> = last.keys().copied().collect();
        return if whole.is_empty() { Ok(None) } else { Err(format!("reported more than once: {ids:?}")) };
    };
    stage(kind, session).map_err(|why| format!("{}: {why}", session.id))?;
    let has_exit = client_exit(made, session)?;
    let named = faults.get(&session.id).map_or(&[][..], Vec::as_slice);
    if !named.iter().map(String::as_str).eq(*fault) {
        return Err(format!("{}: named {named:?} instead of {fault:?}", session.id));
    }
    let told = of_client.iter().find(|(_, session)| session.merged_into.is_none() && stage(kind, session).is_ok());
    Ok(told.map(|(at, _)| Told { delay: Duration::from_nanos(at.saturating_sub(ended.at)), has_exit }))
}

fn is_of(session: &Session, made: &Made) -> bool {
    let has_token = |words: &Option<Vec<String>>| words.iter().flatten().any(|word| word.ends_with(&made.token));
    let client = session.hop("kubectl");
    client.is_some_and(|client| client.pid == made.pid) || has_token(&session.command)
}

/// Checks the stage, the error numbers and the sender of a fatal signal.
fn stage(kind: &Kind, session: &Session) -> Result<(), String> {
    let Expected { reached, failed_at, errno, killed_by, .. } = &kind.expected;
    let attempt = &session.attempt;
    let seen = (attempt.reached.as_deref(), attempt.failed_at.as_deref(), attempt.errno);
    let wanted = (Some(*reached), *failed_at, *errno);
    if seen != wanted {
        return Err(format!("stage {seen:?} instead of {wanted:?}"));
    }
    if matches!(kind.client, Client::Forwards) {
        let errno = attempt.forward_failed.as_ref().and_then(|failed| failed.errno);
        return if errno == Some(111) { Ok(()) } else { Err(format!("error in the pod: {errno:?}")) };
    }
    let origin = session.exit.as_ref().and_then(|exit| Some(exit.killed_by.as_ref()?.origin.as_str()));
    if origin != *killed_by {
        return Err(format!("killed by {origin:?} instead of {killed_by:?}"));
    }
    Ok(())
}

/// Checks the client's exit in the last report. Returns false if it has none: the last line of a session may precede it.
fn client_exit(made: &Made, session: &Session) -> Result<bool, String> {
    let Some(Exit { code, signal, .. }) = &session.client.exit else { return Ok(false) };
    let status = made.ended.status;
    if (*code, *signal) == (status.code(), status.signal()) {
        Ok(true)
    } else {
        Err(format!("{}: exit of the client {code:?} {signal:?} instead of {status}", session.id))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use serde_json::{Value, json};

    use super::{Made, Reported, Row};
    use crate::lab::failures::kinds;
    use crate::lab::truth::kubectls::Ended;
    use crate::tracer::Line;

    /// The row of one kubectl with pid 7 to an unknown pod, of which these sessions were reported two seconds after its end.
    fn row(sessions: &[Value], faults: &[&str]) -> Row {
        let kind = kinds::all().into_iter().find(|kind| kind.name == "no such pod").expect("a kind");
        let mut reported = Reported::default();
        for session in sessions {
            let value = json!({"type": "attempt.failed", "session": session});
            reported.take(Line { at: 2_000_000_000, value }).expect("a session");
        }
        let ended = Ended { status: ExitStatus::from_raw(1 << 8), at: 0, said: "pods \"nosuch\" not found".to_owned() };
        let made = Made { pid: 7, token: "t-1".to_owned(), ended };
        let faults = [("s-1".to_owned(), faults.iter().map(|code| (*code).to_owned()).collect())].into();
        Row::of(&kind, &[made], &reported, &faults)
    }

    fn session(id: &str, failed_at: &str) -> Value {
        json!({
            "id": id,
            "state": "closed",
            "hops": [{"role": "kubectl", "pid": 7}],
            "client": {"exit": {"code": 1, "signal": null}},
            "attempt": {"reached": "apiserver-accepted", "failed_at": failed_at},
        })
    }

    #[test]
    fn only_one_right_report_in_time_is_right() {
        let right = row(&[session("s-1", "kubelet-dialled")], &["F36"]);
        assert_eq!((right.right, right.exits, right.late), (1, 1, 1), "{right:?}");
        assert!(!right.is_right(), "it is late");
        assert_eq!(row(&[], &[]).missing, 1);
        let twice = [session("s-1", "kubelet-dialled"), session("s-2", "kubelet-dialled")];
        let wrong = [
            row(&[session("s-1", "connected")], &["F36"]),
            row(&[session("s-1", "kubelet-dialled")], &["F01"]),
            row(&[session("s-1", "kubelet-dialled")], &[]),
            row(&twice, &["F36"]),
        ];
        for row in wrong {
            assert_eq!((row.right, row.wrong.len()), (0, 1), "{row:?}");
        }
    }
}
