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
        title: format!("not known{place}: {}", escape::str(&gap.text, TEXT)),
        what: what.to_owned(),
        why: why.to_owned(),
        ..Explanation::default()
    })
}

/// Meaning of a gap code, and the way out.
const fn words(code: GapCode) -> (&'static str, &'static str) {
    match code {
        GapCode::LostEvents => (
            "The kernel told of more than could be taken in, and some of it was lost while this session was open.",
            "What may rest on the missing part is not claimed. It is said rather than filled in.",
        ),
        GapCode::Unjoined => (
            "A process here has many connections, and nothing that was seen so far says which of them belongs to this \
             session.",
            "Most often the next bytes that pass tell, and the gap closes by itself. Where all sessions share one tunnel it \
             never does.",
        ),
        GapCode::Ambiguous => (
            "More than one answer fits, so none is given: a wrong link is worse than a missing one.",
            "It is told as soon as all but one are ruled out.",
        ),
        GapCode::PeerUnknown => (
            "One end of a connection is known and the process at its other end is not.",
            "It may be about to accept the connection, be gone already, or hide from who looks without the rights to see it.",
        ),
        GapCode::ShimUnknown => (
            "The process that keeps the container was not found.",
            "It may run under a name or a socket that is not known, or have been started before execpath looked.",
        ),
        GapCode::RuncUnknown => (
            "The runtime has been asked for the command and nothing that starts it was seen.",
            "It may be about to, or be stuck; `execpath diagnose` tells which.",
        ),
        GapCode::ProcessUnknown => (
            "Which process in the container belongs to this session is not known.",
            "It has not been started, has ended already, or what told of it was lost.",
        ),
        GapCode::NamesUnknown => (
            "The container has an id, and no file of the runtime on this host has names for it.",
            "Pod and container then stay unnamed: execpath asks no API server, as that would need a credential.",
        ),
        GapCode::ProcessLeftRunning => (
            "The session is over and its process goes on running: nobody reads what it prints any more.",
            "An exec that loses its client is not ended by Kubernetes. Whoever started the command has to end it.",
        ),
        GapCode::KindUnknown => (
            "From the outside an exec, an attach and a forwarded port look the same until something happens on them.",
            "The next output tells, or kubectl's arguments where kubectl is on this host. Until then it is called an exec.",
        ),
        GapCode::Unverified => (
            "A process here looks like a part of the path, and any program can look like that.",
            "execpath checks its user, namespaces, cgroup and the file of its socket. What does not pass is not claimed.",
        ),
    }
}
