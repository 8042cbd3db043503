//! Phrases for pictures. Each is escaped for display, bounded in length, and derived from the session alone.

use std::{collections::BTreeSet, net::IpAddr};

use super::timeline::SessionTimeline;
use crate::{
    escape,
    model::{BootTime, Evidence, Gap, Hop, Link, LinkKind, Role, Session, SocketId, State, Tuple},
    sink::{
        Header,
        color::Color,
        phrases::{self, NAME, lasted},
    },
};

/// Most characters of a command.
pub(super) const COMMAND: usize = 2_000;
/// Most characters of a path.
pub(super) const PATH: usize = 500;

/// Names of the hosts of a recording. Hosts of one name are counted.
pub(super) fn hosts(header: &Header) -> String {
    counted_words(header.hosts().map(|host| host.hostname.as_str()), "hosts")
}

/// Kernels of the hosts of a recording.
pub(super) fn kernels(header: &Header) -> String {
    let kernels: BTreeSet<&str> = header.hosts().map(|host| host.kernel.as_str()).collect();
    counted_words(kernels.into_iter(), "kernels")
}

/// Most words of a list.
const LISTED: usize = 8;

/// Words in the order of their first appearance; one that appears several times has its count.
fn counted_words<'a>(words: impl Iterator<Item = &'a str>, what: &str) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words.filter(|word| !word.is_empty()) {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let more = counts.len().saturating_sub(LISTED);
    let listed = counts.iter().take(LISTED).map(|(word, count)| match count {
        1 => escape::str(word, NAME),
        count => format!("{} ({count} {what})", escape::str(word, NAME)),
    });
    let listed = listed.collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

/// Two short lines for a hop: its role, and its process.
pub(super) fn hop(hop: &Hop) -> (String, String) {
    let comm = escape::text(hop.process.comm.as_bytes(), NAME);
    let pid = format!("pid {}", hop.task.tgid);
    let what = if comm.is_empty() { pid } else { format!("{comm} · {pid}") };
    (role(hop), what)
}

/// Name of a hop's role, as people write it.
pub(super) fn role(hop: &Hop) -> String {
    match hop.role.token() {
        "apiserver" => "API server".to_owned(),
        token => token.to_owned(),
    }
}

/// Two lines for a link: its kind and confidence, and its addresses or path.
pub(super) fn link(link: &Link) -> (String, String) {
    let shared = if link.persistent { " · shared" } else { "" };
    let what = match link.kind {
        LinkKind::Tcp => link.tcp.map(|ends| {
            let Tuple { local, remote } = ends.tuple;
            // A connection inside one machine: write the address once.
            if local.ip() == remote.ip() {
                format!("{local} → :{}", remote.port())
            } else {
                format!("{local} → {remote}")
            }
        }),
        LinkKind::Unix => link.unix.as_ref().map(|(path, ..)| escape::text(path.as_bytes(), PATH)),
        LinkKind::Fifo => Some("stdin, stdout, stderr".to_owned()),
        LinkKind::Relay => Some("joined inside".to_owned()),
        LinkKind::Fork | LinkKind::Exec => None,
    };
    (format!("{}{shared} · {}", link.kind.token(), link.confidence.token()), what.unwrap_or_default())
}

/// The same with ports alone, for lines between places: their titles contain the addresses.
pub(super) fn link_between(link: &Link) -> (String, String) {
    let (kind, what) = self::link(link);
    let ports = link.tcp.map(|ends| format!(":{} → :{}", ends.tuple.local.port(), ends.tuple.remote.port()));
    (kind, ports.unwrap_or(what))
}

/// Socket of the link's end nearer to the client.
pub(super) fn near(link: &Link) -> Option<SocketId> {
    link.tcp.map_or_else(|| link.unix.as_ref().map(|(_, near, _)| *near), |ends| ends.near)
}

/// Socket of the link's end nearer to the process.
pub(super) fn far(link: &Link) -> Option<SocketId> {
    link.tcp.map_or_else(|| link.unix.as_ref().map(|(.., far)| *far), |ends| ends.far)
}

/// Evidence of a link as prose.
pub(super) fn evidence(evidence: &[Evidence]) -> String {
    let evidence: Vec<&str> = evidence.iter().map(|evidence| evidence.prose()).collect();
    evidence.join("; ")
}

/// Title and network namespace of the place of hops `first..=last`. The title has the host, if the recording has
/// several, and the addresses in use.
pub(super) fn place(header: &Header, history: &SessionTimeline, first: usize, last: usize) -> (String, String) {
    let within = |hop: usize| (first..=last).contains(&hop);
    let links = history.links.iter().map(|edge| &edge.value.link);
    let ends = links.filter_map(|link| Some((link.from, link.to, link.tcp?.tuple)));
    let used = ends.flat_map(|(from, to, tuple)| {
        [(from, tuple.local.ip()), (to, tuple.remote.ip())].into_iter().filter(|(hop, _)| within(*hop))
    });
    let own: BTreeSet<IpAddr> = used.map(|(_, ip)| ip).filter(|ip| !ip.is_loopback()).collect();
    let hops = &history.hops[first..=last];
    let netns = hops.iter().find_map(|hop| hop.value.process.netns);
    let addresses: Vec<String> = own.iter().map(ToString::to_string).collect();
    let only_process = hops.iter().all(|hop| hop.value.role == Role::Process);
    let title = match (only_process, phrases::into(&history.session)) {
        (true, Some(into)) => into,
        _ if addresses.is_empty() => "on this machine".to_owned(),
        _ => addresses.join(", "),
    };
    let host = hops.first().and_then(|hop| header.distinct(hop.value.task.host));
    let title = host.map_or_else(|| title.clone(), |host| format!("{} · {title}", escape::str(host, NAME)));
    let netns = netns.map_or("network namespace not known".to_owned(), |netns| format!("network namespace {netns}"));
    (title, netns)
}

/// One line for a session: its kind and its target.
pub(super) fn title(session: &Session) -> String {
    let into = phrases::into(session).map_or(String::new(), |into| format!(" into {into}"));
    format!("{}{into}", session.kind.token())
}

/// The command, escaped.
pub(super) fn command(session: &Session) -> Option<String> {
    phrases::command(session, COMMAND)
}

/// Outcome of a session and its colour. `session` must be in its last state.
pub(super) fn outcome(session: &Session, end: BootTime) -> (String, Color) {
    if let Some(whole) = &session.merged_into {
        return (format!("a part of {}, which continues", escape::str(&whole.0, NAME)), Color::Dim);
    }
    if session.state == State::Open {
        return (format!("still open after {}", lasted(end.since(session.opened_at))), Color::Dim);
    }
    let (color, text) = phrases::outcome(session, end);
    (text, color)
}

/// The text of a gap, with the hops it lies between.
pub(super) fn gap(history: &SessionTimeline, gap: &Gap) -> String {
    let hops = history.hops.iter().map(|hop| hop.value.clone()).collect();
    phrases::gap_words(&Session { hops, ..history.session.clone() }, gap)
}

/// Cuts text to `room` characters. A path keeps part of its end, which identifies it as much as its start.
pub(super) fn cut(text: &str, room: u32) -> String {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let end = if text.starts_with('/') { room / 3 } else { 0 };
    let start = text.chars().take(room.saturating_sub(1 + end));
    start.chain([escape::CUT]).chain(text.chars().skip(length - end)).collect()
}

#[cfg(test)]
mod tests {
    use super::{counted_words, cut};

    #[test]
    fn hosts_are_listed_by_name_and_counted() {
        assert_eq!(counted_words(["vm"].into_iter(), "hosts"), "vm");
        assert_eq!(counted_words(["a", "b", "a", ""].into_iter(), "hosts"), "a (2 hosts), b");
        let names: Vec<String> = (0..12).map(|number| format!("node-{number}")).collect();
        let text = counted_words(names.iter().map(String::as_str), "hosts");
        assert!(text.ends_with("node-7 and 4 more"), "{text}");
    }

    #[test]
    fn long_text_is_cut_visibly_and_paths_keep_ends() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("/run/containerd/containerd.sock", 15), "/run/cont….sock");
        assert_eq!(cut("日本語", 2), "日…");
        assert_eq!(cut("abc", 0), "…");
    }
}
