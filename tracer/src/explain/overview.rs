//! Explains the session as a whole, and the places where its path leaves this host.

use super::{
    Explanation, kinds,
    manual::Manual,
    programs::{self, NAME, name},
};
use crate::{
    escape,
    model::{Link, LinkKind, Session, State},
};

pub(super) fn session(session: &Session) -> Explanation {
    let words = kinds::words(session.kind);
    let mut unknown = Vec::new();
    if !session.complete && session.merged_into.is_none() {
        unknown.push("The path is incomplete; the gaps below list the missing steps.".to_owned());
    }
    if session.preexisting {
        unknown.push(
            "It began before execpath attached, so its start was not observed. The explanation rests on the state \
             found later."
                .to_owned(),
        );
    }
    if session.state == State::Closed {
        unknown.push("It is closed. The commands below worked only while it was open.".to_owned());
    }
    Explanation {
        title: format!("{}: {}", words.typed, programs::target(session)),
        what: format!("{} {}", words.what, connections(session)).trim_end().to_owned(),
        why: words.why.to_owned(),
        known: Vec::new(),
        unknown,
        manual: Vec::new(),
    }
}

fn is_leg(link: &Link) -> bool {
    matches!(link.kind, LinkKind::Tcp | LinkKind::Unix) && link.from != link.to
}

/// The connections that belong to the session alone, and the number of shared ones.
fn connections(session: &Session) -> String {
    let own: Vec<String> = session
        .links
        .iter()
        .filter(|link| is_leg(link) && !link.persistent)
        .filter_map(|link| {
            let (from, to) = (session.hops.get(link.from)?, session.hops.get(link.to)?);
            Some(format!("{} to {}", name(from), name(to)))
        })
        .collect();
    let shared = session.links.iter().filter(|link| is_leg(link) && link.persistent).count();
    let own = match own.len() {
        0 => String::new(),
        1 => format!("One connection on this host belongs to it alone: {}.", own.join("")),
        count => format!("{count} connections on this host belong to it alone: {}.", own.join(", ")),
    };
    let shared = match shared {
        0 => String::new(),
        1 => "One more is shared with other sessions and stays open.".to_owned(),
        count => format!("{count} more are shared with other sessions and stay open."),
    };
    [own, shared].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

pub(super) fn beyond(session: &Session, index: usize) -> Option<Explanation> {
    let (side, address) = session.beyond.get(index)?;
    let (who, where_to_look) = match *side {
        "client" => ("The client is", "Run execpath there as well: it shows the client and its arguments"),
        "apiserver" => ("The API server is", "Run execpath there as well: it shows the rest of the path"),
        "node" => ("The node is", "Run execpath there as well: it shows the kubelet, the runtime and the process"),
        _ => ("The other end is", "Run execpath there as well"),
    };
    Some(Explanation {
        title: format!("{} at {address}, on another host", escape::str(side, NAME)),
        what: format!(
            "{who} not on this host: the connection comes from, or goes to, {address}. One run of execpath sees one \
             kernel, so the path ends here."
        ),
        why: format!("{where_to_look}."),
        known: Vec::new(),
        unknown: vec![
            "A load balancer, a proxy or NAT on the way may have replaced the address by its own.".to_owned(),
        ],
        manual: vec![Manual::new(format!("ss -tnp | grep -F '{address}'"), "the end on this host")],
    })
}
