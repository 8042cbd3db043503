//! Explains a gap: its meaning, and the information that would close it.

use super::{Explanation, programs::who_at};
use crate::{
    escape,
    model::{GapCode, Session},
};

/// Most bytes of a gap's text.
const TEXT: usize = 300;

pub(super) fn gap(session: &Session, index: usize) -> Option<Explanation> {
    let gap = session.gaps.get(index)?;
    let place = match gap.between {
        Some((from, to)) if from == to => format!(" at {}", who_at(session, from)),
        Some((from, to)) if to < session.hops.len() => {
            format!(" between {} and {}", who_at(session, from), who_at(session, to))
        }
        Some((from, _)) => format!(" below {}", who_at(session, from)),
        None => String::new(),
    };
    let (what, why) = words(gap.code);
    Some(Explanation {
        title: format!("gap{place}: {}", escape::str(&gap.text, TEXT)),
        what: what.to_owned(),
        why: why.to_owned(),
        ..Explanation::default()
    })
}

/// Meaning of a gap code, and the way out.
const fn words(code: GapCode) -> (&'static str, &'static str) {
    match code {
        GapCode::LostEvents => (
            "The kernel produced events faster than execpath could read them, and some were lost while this session \
             was open.",
            "Links that may depend on the lost events are not reported. The loss is shown instead.",
        ),
        GapCode::Unjoined => (
            "A process here has many connections, and no observation so far connects one of them to this session.",
            "Usually the next bytes provide the evidence, and the gap closes by itself. If all sessions share one \
             tunnel, it never closes.",
        ),
        GapCode::Ambiguous => (
            "More than one answer fits, so none is given: a wrong link is worse than a missing one.",
            "The answer appears as soon as all others are ruled out.",
        ),
        GapCode::PeerUnknown => (
            "One end of a connection is known, but the process at its other end is not.",
            "The process may be about to accept the connection, may have ended, or may be invisible without more \
             rights.",
        ),
        GapCode::ShimUnknown => (
            "The shim, the parent of the container's processes, was not found.",
            "It may have an unknown name or socket, or may have started before execpath did.",
        ),
        GapCode::RuncUnknown => (
            "The runtime has the request for the command, but its start was not observed.",
            "The runtime may be about to start it, or be stuck; `execpath diagnose` distinguishes the two.",
        ),
        GapCode::ProcessUnknown => (
            "The session's process in the container is not known.",
            "It has not started yet, has ended already, or its events were lost.",
        ),
        GapCode::NamesUnknown => (
            "The container's id is known, but no file of the runtime on this host has its names.",
            "Pod and container stay unnamed: execpath does not ask the API server, because that needs a credential.",
        ),
        GapCode::ProcessLeftRunning => (
            "The session is closed, but its process is still running. Its output has no reader.",
            "Kubernetes does not end an exec that loses its client. The user who started the command has to end it.",
        ),
        GapCode::KindUnknown => (
            "Seen from outside, an exec, an attach and a forwarded port look the same until bytes move.",
            "The next output decides, or kubectl's arguments if kubectl runs on this host. Until then the session is \
             listed as an exec.",
        ),
        GapCode::Unverified => (
            "A process here looks like a part of the path, but any program could imitate that.",
            "execpath checks its user, namespaces, cgroup and the file of its socket. A process that fails a check is \
             not reported as that part.",
        ),
    }
}
