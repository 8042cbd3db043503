//! Where the start of a session takes its time: parts between consecutive rungs of its attempt.

use super::{BootTime, Kind, Role, Rung, RungSeen, RungState, Session, Span, parse_kubectl};

/// The rungs of a start in the order of time. It differs from [`Rung::ALL`] twice: a server begins the TLS handshake after
/// accept(2), and the kubelet passes on the answer of the runtime's streaming server, which makes FIFOs once the client has
/// opened its streams (k8s.io/cri-streaming: remotecommand). The end of the command is no part of the start.
const IN_TIME: [Rung; 14] = [
    Rung::ClientStarted,
    Rung::NameResolved,
    Rung::Connected,
    Rung::ApiserverAccepted,
    Rung::Tls,
    Rung::KubeletDialled,
    Rung::KubeletAccepted,
    Rung::RuntimeAsked,
    Rung::StreamDialled,
    Rung::KubeletAnswered,
    Rung::FifosMade,
    Rung::RuncStarted,
    Rung::Executed,
    Rung::Running,
];

/// The time between two consecutive rungs whose times are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Rung at which the part begins.
    pub from: Rung,
    /// Rung at which it ends.
    pub to: Rung,
    /// State of that rung: the time of a waiting one is its beginning.
    pub state: RungState,
    /// Time of `from`.
    pub begun: BootTime,
    /// Time from `from` to `to`.
    pub lasted: Span,
    /// Rungs between the two whose times are not known. The part is divided among them and `to` in unknown shares.
    pub unseen: Vec<Rung>,
}

/// The start of a session, from the first rung with a known time to the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waterfall {
    /// Its parts, at least one, in the order of time. Each begins where the one before it ends.
    pub parts: Vec<Part>,
}

impl Waterfall {
    /// The time from the first to the last rung: the sum of all parts.
    #[must_use]
    pub fn wall(&self) -> Span {
        self.parts.iter().fold(Span(0), |sum, part| Span(sum.0.saturating_add(part.lasted.0)))
    }
}

impl Session {
    /// The start of the session over its rungs; `None` if fewer than two rungs have a time.
    ///
    /// A time that is earlier than that of a former rung is not used: the rung belongs to something older, such as the
    /// process that an attach leads to, or clocks of merged recordings differ. The start of a client counts for kubectl
    /// alone, because another client may have started days before its request.
    #[must_use]
    pub fn waterfall(&self) -> Option<Waterfall> {
        let attempt = self.attempt.as_ref()?;
        let mut parts = Vec::new();
        let mut last: Option<(Rung, BootTime)> = None;
        let mut unseen = Vec::new();
        for rung in IN_TIME.into_iter().filter(|rung| self.may_have(*rung)) {
            let seen = attempt.rung(rung).filter(|one| has_begun(one));
            let Some((one, at)) = seen.and_then(|one| Some((one, one.at?))) else {
                unseen.push(rung);
                continue;
            };
            if let Some((from, begun)) = last {
                if at < begun {
                    unseen.push(rung);
                    continue;
                }
                let unseen = std::mem::take(&mut unseen);
                parts.push(Part { from, to: rung, state: one.state, begun, lasted: at.since(begun), unseen });
            }
            unseen.clear();
            last = Some((rung, at));
        }
        (!parts.is_empty()).then_some(Waterfall { parts })
    }

    /// False for rungs that are no part of this session's start.
    fn may_have(&self, rung: Rung) -> bool {
        if rung == Rung::ClientStarted {
            let client = self.hops.first().filter(|hop| hop.role == Role::Client);
            let call = client.and_then(|client| parse_kubectl(&client.process.argv));
            return call.is_some_and(|call| Kind::kept_open(call.word).is_some());
        }
        // Only containerd and dockerd make FIFOs, with the exec's id in their names.
        rung != Rung::FifosMade || self.exec_id.is_some()
    }
}

const fn has_begun(one: &RungSeen) -> bool {
    match one.state {
        RungState::Reached | RungState::Waiting | RungState::Failed => true,
        RungState::Absent | RungState::Unseen => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Attempt, Hop, ProcessInfo, RawText, TaskKey};

    /// A session of `kubectl exec` with these rungs, in milliseconds since boot.
    fn session(rungs: &[(Rung, RungState, Option<u64>)]) -> Session {
        let at = |millis: u64| BootTime(0).plus(Span::from_millis(millis));
        let seen =
            |(rung, state, millis): &(Rung, RungState, Option<u64>)| RungSeen::new(*rung, *state, millis.map(at));
        let argv = ["kubectl", "exec", "web", "--", "id"].map(RawText::from).into();
        let client = Hop {
            role: Role::Client,
            task: TaskKey::from_ns(7, 1),
            process: Arc::new(ProcessInfo { argv, ..ProcessInfo::default() }),
            exit: None,
        };
        Session {
            exec_id: Some("e".into()),
            hops: vec![client],
            attempt: Some(Box::new(Attempt { rungs: rungs.iter().map(seen).collect(), ..Attempt::default() })),
            ..Session::sample()
        }
    }

    fn parts(session: &Session) -> Vec<(Rung, Rung, u64, Vec<Rung>)> {
        let parts = session.waterfall().map(|whole| whole.parts).unwrap_or_default();
        parts.into_iter().map(|part| (part.from, part.to, part.lasted.as_millis(), part.unseen)).collect()
    }

    #[test]
    fn every_rung_but_the_end_has_one_place_in_time() {
        let mut sorted = IN_TIME.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, Rung::ALL[..Rung::ALL.len() - 1]);
    }

    #[test]
    fn parts_are_between_known_times_and_name_the_unknown() {
        use Rung::{
            ApiserverAccepted, ClientStarted, Connected, Ended, Executed, KubeletDialled, NameResolved, Running, Tls,
        };
        use RungState::{Reached, Unseen, Waiting};
        let rungs = [
            (ClientStarted, Reached, Some(100)),
            (NameResolved, Unseen, None),
            (Connected, Reached, Some(120)),
            (Tls, Unseen, None),
            (ApiserverAccepted, Reached, Some(125)),
            (KubeletDialled, Waiting, Some(140)),
        ];
        let waiting = session(&rungs);
        let expected = vec![
            (ClientStarted, Connected, 20, vec![NameResolved]),
            (Connected, ApiserverAccepted, 5, Vec::new()),
            (ApiserverAccepted, KubeletDialled, 15, vec![Tls]),
        ];
        assert_eq!(parts(&waiting), expected);
        assert_eq!(waiting.waterfall().map(|whole| whole.wall()), Some(Span::from_millis(40)));
        // The run of the command is no part of the start.
        let ended = session(&[
            (Connected, Reached, Some(120)),
            (Executed, Reached, Some(130)),
            (Running, Reached, Some(130)),
            (Ended, Reached, Some(9_000)),
        ]);
        let last = parts(&ended).pop();
        assert_eq!(last, Some((Executed, Running, 0, Vec::new())));
        assert_eq!(parts(&ended)[0].3.len(), 9, "all rungs between");
    }

    #[test]
    fn times_of_older_things_are_not_used() {
        use Rung::{ClientStarted, Connected, Executed, FifosMade, RuncStarted, StreamDialled};
        use RungState::{Absent, Reached};
        // An attach leads to an older process.
        let attach = session(&[(Connected, Reached, Some(120)), (Executed, Reached, Some(3))]);
        assert_eq!(attach.waterfall(), None);
        assert_eq!(session(&[(Connected, Reached, Some(1)), (StreamDialled, Absent, Some(9))]).waterfall(), None);
        // Another client than kubectl has no start.
        let mut other = session(&[(ClientStarted, Reached, Some(1)), (Connected, Reached, Some(120))]);
        assert_eq!(parts(&other).len(), 1);
        other.hops.clear();
        assert_eq!(other.waterfall(), None);
        // Only containerd and dockerd make FIFOs.
        let mut crio = session(&[(StreamDialled, Reached, Some(1)), (RuncStarted, Reached, Some(2))]);
        assert!(parts(&crio)[0].3.contains(&FifosMade));
        crio.exec_id = None;
        assert!(!parts(&crio)[0].3.contains(&FifosMade));
    }
}
