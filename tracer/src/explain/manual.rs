//! Commands that show the same by hand, with the numbers of the session filled in.

use std::collections::BTreeSet;

use super::programs::{name, who, who_at};
use crate::model::{Hop, Link, LinkKind, Role, Session, SocketId, TcpEnds};

/// A shell command and its meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manual {
    /// The command, ready to paste into a shell.
    pub command: String,
    /// The part of its output to look at.
    pub shows: String,
}

impl Manual {
    pub(super) fn new(command: String, shows: impl Into<String>) -> Self {
        Self { command, shows: shows.into() }
    }
}

/// The command for the process itself. `None` once the process has ended.
pub(super) fn process(session: &Session, hop: &Hop) -> Option<Manual> {
    let pid = hop.task.tgid;
    let gone = hop.exit.is_some() || (hop.role == Role::Runc && session.hops.iter().any(|hop| hop.role == Role::Shim));
    // An ended process leaves nothing to look at, and its pid may belong to another process by now.
    (!gone).then(|| match hop.role {
        Role::Shim => {
            Manual::new(format!("ps -o pid,ppid,args --ppid {pid}"), "its children: the container's processes")
        }
        Role::Process => {
            Manual::new(format!("cat /proc/{pid}/cgroup"), "the container's id, in the name of its cgroup")
        }
        Role::Client | Role::Proxy | Role::ApiServer | Role::Etcd | Role::Kubelet | Role::Runtime | Role::Runc => {
            Manual::new(format!("ps -o pid,ppid,user,args -p {pid}"), "the process and its arguments")
        }
    })
}

/// The command that lists a server's ports.
pub(super) fn listens(session: &Session, index: usize) -> Option<Manual> {
    let hop = session.hops.get(index)?;
    let command = format!("{}ss -ltnp | grep 'pid={},'", enter(session, hop), hop.task.tgid);
    Some(Manual::new(command, "the ports on which it listens"))
}

/// The commands for a link.
pub(super) fn link(session: &Session, link: &Link) -> Vec<Manual> {
    match link.kind {
        LinkKind::Tcp => link.tcp.map(|ends| tcp(session, link, &ends)).unwrap_or_default(),
        LinkKind::Unix => unix(session, link).into_iter().collect(),
        LinkKind::Relay => relay(session, link).into_iter().collect(),
        LinkKind::Fifo => fifo(session, link).into_iter().collect(),
        LinkKind::Fork | LinkKind::Exec => family(session, link).into_iter().collect(),
    }
}

fn tcp(session: &Session, link: &Link, ends: &TcpEnds) -> Vec<Manual> {
    let port = ends.tuple.local.port();
    let seen = [link.from, link.to].map(|index| session.hops.get(index));
    let [near, far] = seen.map(|hop| hop.map(|hop| (enter(session, hop), hop)));
    let shown = |enter: &str, what: String| {
        Manual::new(format!("{enter}ss -tnp '( sport = :{port} or dport = :{port} )'"), what)
    };
    match (near, far) {
        (Some((here, near)), Some((there, far))) if here == there => {
            let both = format!("both ends: {} and {}", who(near), who(far));
            let netstat = format!("{here}netstat -atnp | grep :{port}");
            vec![shown(&here, both), Manual::new(netstat, "the same, with the older tool")]
        }
        (near, far) => {
            let end = |(enter, hop): (String, &Hop)| shown(&enter, format!("the end of {}", who(hop)));
            near.into_iter().chain(far).map(end).collect()
        }
    }
}

/// The prefix that enters a hop's network namespace. It is needed only if the hops are not all in one namespace.
/// Processes inside pods do not count, unless the command is for one of them.
fn enter(session: &Session, hop: &Hop) -> String {
    let hosts = session.hops.iter().filter(|hop| hop.role != Role::Process);
    let several = hosts.filter_map(|hop| hop.process.netns).collect::<BTreeSet<u32>>().len() > 1;
    let needed = hop.role == Role::Process || (several && hop.process.netns.is_some());
    if needed { format!("nsenter -n -t {} ", hop.task.tgid) } else { String::new() }
}

fn inodes(ends: [SocketId; 2]) -> Option<String> {
    let known: Vec<String> = ends.into_iter().filter_map(|end| end.inode).map(|inode| inode.to_string()).collect();
    (!known.is_empty()).then(|| known.join("|"))
}

fn unix(session: &Session, link: &Link) -> Option<Manual> {
    let (_, near, far) = link.unix.as_ref()?;
    let enter = session.hops.get(link.to).map(|hop| enter(session, hop)).unwrap_or_default();
    let shows = "both ends: the last number of a line, before the process, is the inode of the other end";
    Some(Manual::new(format!("{enter}ss -xp | grep -wE '{}'", inodes([*near, *far])?), shows))
}

fn relay(session: &Session, link: &Link) -> Option<Manual> {
    let (inbound, outbound) = link.relay?;
    let hop = session.hops.get(link.from)?;
    let command = format!("ls -l /proc/{}/fd | grep -E '{}'", hop.task.tgid, inodes([inbound, outbound])?);
    Some(Manual::new(
        command,
        format!("{} has both open; the command cannot show that they belong together", name(hop)),
    ))
}

fn fifo(session: &Session, link: &Link) -> Option<Manual> {
    let id = session.exec_id.as_ref().filter(|id| id.bytes().all(is_plain))?;
    let pid = session.hops.get(link.to)?.task.tgid;
    let command = format!("ls -l /proc/{pid}/fd | grep -F '{id}'");
    Some(Manual::new(command, format!("the FIFOs, open in {}", who_at(session, link.to))))
}

/// An exec id may come from the user (`ctr`), so it may contain anything.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn family(session: &Session, link: &Link) -> Option<Manual> {
    let (from, to) = (session.hops.get(link.from)?, session.hops.get(link.to)?);
    if to.exit.is_some() {
        return None;
    }
    // runc's pid may belong to another process by now.
    if from.role == Role::Runc {
        let command = format!("ps -o pid,ppid,args -p {}", to.task.tgid);
        let shows = "the process; after the end of runc its parent is the shim, or the process that adopts orphans";
        return Some(Manual::new(command, shows));
    }
    let command = format!("ps -o pid,ppid,args -p {},{}", from.task.tgid, to.task.tgid);
    Some(Manual::new(command, "parent and child: the parent's pid is the child's ppid"))
}
