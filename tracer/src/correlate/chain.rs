//! Puts a session together: from the exec id backwards to the client, leg by leg, and forwards to the process. Walking
//! backwards takes only what is proved: a connection that leads nowhere (kubectl's idle GET) is never on the way.

use std::{collections::BTreeSet, net::SocketAddr};

use sha2::{Digest, Sha256};

use super::{
    execs::Exec,
    joins::{Join, Verdict},
    limits::{CLOSE_GRACE, MAX_HOPS},
    roles::role_of,
    sockets::SocketNo,
    world::{Part, World},
};
use crate::model::{
    BootTime, Client, Confidence, Evidence, ExitReason, Gap, GapCode, Hop, Kind, Link, LinkKind, Role, Session,
    SessionExit, SessionId, State, Target, TaskKey, TcpEnds, Want,
};

/// A session as of now, and what it rests on.
pub(super) struct Built {
    pub(super) session: Session,
    pub(super) parts: BTreeSet<Part>,
    pub(super) wants: Vec<Want>,
    /// When to look again although nothing happened.
    pub(super) again_at: Option<BootTime>,
}

/// One process on the way, seen from the runtime.
struct Node {
    task: TaskKey,
    role: Role,
    /// The connection it was reached by; `None` at the client, or where that is not known.
    inbound: Option<SocketNo>,
    /// How that belongs to its outbound connection.
    join: Option<Join>,
    /// The connection to the next node.
    outbound: Option<SocketNo>,
}

impl World {
    /// The session of that exec.
    pub(super) fn build(&self, id: &str, exec: &Exec, now: BootTime) -> Built {
        let mut builder = Builder {
            world: self,
            parts: BTreeSet::from([Part::Exec(id.to_owned()), Part::Container(exec.container.clone())]),
            wants: Vec::new(),
            gaps: Vec::new(),
            beyond: Vec::new(),
        };
        let up = builder.upstream(exec);
        let (hops, links) = builder.path(exec, &up);
        builder.finish(id, exec, now, &up, hops, links)
    }
}

struct Builder<'a> {
    world: &'a World,
    parts: BTreeSet<Part>,
    wants: Vec<Want>,
    gaps: Vec<Gap>,
    beyond: Vec<(&'static str, SocketAddr)>,
}

impl Builder<'_> {
    /// From the runtime to the client.
    fn upstream(&mut self, exec: &Exec) -> Vec<Node> {
        let mut up = Vec::new();
        if let Some(runtime) = exec.runtime {
            up.push(Node { task: runtime, role: Role::Runtime, inbound: exec.stream, join: None, outbound: None });
        } else if let Some(leg) = exec.leaves_by {
            up.extend(self.dialler(leg));
            self.beyond.extend(self.world.sockets.get(leg).and_then(|near| Some(("node", near.tuple?.remote))));
            self.gap(
                GapCode::KindUnknown,
                None,
                "exec, attach or port-forward: which of them, and what runs, is seen on the node alone",
            );
        }
        if exec.stream_ambiguous {
            self.gap(GapCode::Ambiguous, Some((0, 0)), "more than one connection fits this exec, so none is named");
        }
        while let Some(far) = up.last().and_then(|node| node.inbound) {
            if up.len() >= MAX_HOPS {
                self.gap(GapCode::PeerUnknown, Some((0, 0)), "the path has more proxies than are followed");
                break;
            }
            let Some(node) = self.previous(far) else { break };
            up.push(node);
        }
        up
    }

    /// The process at the other end of an accepted connection, and how it came to make that connection.
    fn previous(&mut self, far: SocketNo) -> Option<Node> {
        self.parts.insert(Part::Socket(far));
        let socket = self.world.sockets.get(far)?;
        let Some(near_no) = socket.peer else {
            match (socket.peer_absent, socket.tuple) {
                (true, Some(tuple)) => self.beyond.push(("client", tuple.remote)),
                (false, Some(tuple)) => {
                    self.wants.push(Want::Peer { tuple, netns: socket.netns });
                    self.gap(
                        GapCode::PeerUnknown,
                        Some((0, 0)),
                        "who has the other end of this connection is not known yet",
                    );
                }
                (_, None) => {
                    self.gap(GapCode::PeerUnknown, Some((0, 0)), "the addresses of this connection are not known")
                }
            }
            return None;
        };
        self.dialler(near_no)
    }

    /// The process that has this connecting end, and how it came to make the connection.
    fn dialler(&mut self, near_no: SocketNo) -> Option<Node> {
        self.parts.insert(Part::Socket(near_no));
        let near = self.world.sockets.get(near_no)?;
        let Some(task) = near.owner else {
            self.gap(
                GapCode::PeerUnknown,
                Some((0, 0)),
                "which process has the other end of this connection is not known",
            );
            return None;
        };
        let verdict = self.world.inbound_of(near_no);
        let join = match verdict {
            Verdict::Joined(join) => Some(join),
            Verdict::Ambiguous | Verdict::Unknown => None,
        };
        let inbound = join.map(|join| join.inbound);
        let inbound_port = inbound
            .and_then(|no| self.world.sockets.get(no))
            .and_then(|socket| socket.tuple)
            .map(|tuple| tuple.local.port());
        let process = self.world.processes.get(task);
        let no_ports = BTreeSet::new();
        let ports = process.map_or(&no_ports, |process| &process.ports);
        let role = role_of(&self.world.places, inbound_port, ports);
        let serves = process.is_some_and(|process| process.accepts || !process.ports.is_empty());
        match verdict {
            Verdict::Joined(_) => {}
            Verdict::Ambiguous => self.gap(
                GapCode::Ambiguous,
                Some((0, 0)),
                "more than one inbound connection fits this outbound one, so none is named",
            ),
            Verdict::Unknown if role == Role::Client && !serves => {}
            Verdict::Unknown if role == Role::Client => self.gap(
                GapCode::Unjoined,
                Some((0, 0)),
                "this process accepts connections, too: whether it began this one or passes it on for another is not known",
            ),
            Verdict::Unknown => self.gap(
                GapCode::Unjoined,
                Some((0, 0)),
                "no act seen so far joins an inbound connection to this outbound one: waiting for traffic",
            ),
        }
        Some(Node { task, role, inbound, join, outbound: Some(near_no) })
    }

    fn hop(&mut self, task: TaskKey, role: Role) -> Hop {
        self.parts.insert(Part::Task(task));
        let process = self.world.processes.get(task);
        Hop {
            role,
            task,
            process: process.map(|process| process.info.clone()).unwrap_or_default(),
            exit: process.and_then(|process| process.exit).map(|(_, status)| status),
        }
    }

    /// Hops and links from client to process.
    fn path(&mut self, exec: &Exec, up: &[Node]) -> (Vec<Hop>, Vec<Link>) {
        let mut hops: Vec<Hop> = Vec::with_capacity(up.len() + 3);
        let mut links = Vec::with_capacity(2 * up.len() + 3);
        for (index, node) in up.iter().rev().enumerate() {
            let hop = self.hop(node.task, node.role);
            hops.push(hop);
            if let Some(join) = node.join {
                links.push(self.relay(index, join, node));
            }
            // The leg that leaves this host has no hop to lead to.
            if let (Some(near), true) = (node.outbound, index + 1 < up.len()) {
                links.push(self.tcp(index, near));
            }
        }
        self.below(exec, &mut hops, &mut links);
        let standing: Vec<Link> = (1..hops.len()).filter_map(|to| self.standing(&hops, to)).collect();
        links.extend(standing);
        // In the order of the path; what is inside a hop before what leaves it.
        links.sort_by_key(|link| (link.from, link.to));
        (hops, links)
    }

    fn relay(&self, hop: usize, join: Join, node: &Node) -> Link {
        let id = |no: Option<SocketNo>| {
            no.and_then(|no| self.world.sockets.get(no)).map(|socket| socket.id).unwrap_or_default()
        };
        Link {
            relay: Some((id(Some(join.inbound)), id(node.outbound))),
            ..link(hop, hop, LinkKind::Relay, join.confidence, vec![join.evidence])
        }
    }

    fn tcp(&self, from: usize, near_no: SocketNo) -> Link {
        let near = self.world.sockets.get(near_no);
        let far = near.and_then(|near| near.peer).and_then(|no| self.world.sockets.get(no));
        let ends = near.and_then(|near| {
            Some(TcpEnds {
                tuple: near.tuple?,
                near: Some(near.id),
                far: far.map(|far| far.id),
                // What one end sent the other received; a FIN may be counted as a byte, so the receivers' sums are told.
                sent: far.and_then(|far| far.received),
                received: near.received,
            })
        });
        Link { tcp: ends, ..link(from, from + 1, LinkKind::Tcp, Confidence::Exact, vec![Evidence::SocketPair]) }
    }

    /// The connection over which one daemon asks the next: CRI, ttrpc. It stands for all sessions.
    fn standing(&self, hops: &[Hop], to: usize) -> Option<Link> {
        let (near, far) = (hops.get(to - 1)?.task, hops.get(to)?.task);
        let standing = self.world.standing.get(&(near, far))?;
        Some(Link {
            persistent: true,
            unix: Some((standing.path.clone(), standing.near, standing.far)),
            ..link(to - 1, to, LinkKind::Unix, Confidence::Exact, vec![Evidence::UnixPeer])
        })
    }

    /// Shim, runc, process.
    fn below(&mut self, exec: &Exec, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        if exec.runtime.is_none() {
            return;
        }
        let runtime = hops.len() - 1;
        let Some(runc) = exec.runc else {
            self.gap_at(GapCode::RuncUnknown, (runtime, runtime), "the runtime has not started the command yet");
            return;
        };
        let mut last = runtime;
        // Same goroutine: stream leg → FIFOs named by the exec id. The same exec id: FIFOs → arguments of runc.
        let confidence =
            if exec.stream.is_none() || exec.stream_by_goroutine { Confidence::Exact } else { Confidence::Strong };
        let mut evidence = vec![Evidence::ExecId, Evidence::RuncArgs];
        if exec.stream.is_some() {
            evidence.insert(0, if exec.stream_by_goroutine { Evidence::Goroutine } else { Evidence::Thread });
        }
        match exec.shim {
            Some(shim) if Some(shim) != exec.runtime => {
                let hop = self.hop(shim, Role::Shim);
                hops.push(hop);
                links.push(link(last, last + 1, LinkKind::Fifo, confidence, evidence));
                last += 1;
                let hop = self.hop(runc, Role::Runc);
                hops.push(hop);
                let forked = if exec.shim_forked { Confidence::Exact } else { Confidence::Strong };
                links.push(link(last, last + 1, LinkKind::Fork, forked, vec![Evidence::Fork]));
            }
            // CRI-O starts the OCI runtime itself.
            Some(_) => {
                let hop = self.hop(runc, Role::Runc);
                hops.push(hop);
                evidence.push(Evidence::Fork);
                links.push(link(last, last + 1, LinkKind::Fork, confidence, evidence));
            }
            None => {
                self.gap_at(GapCode::ShimUnknown, (last, last + 1), "who started runc was not seen");
                let hop = self.hop(runc, Role::Runc);
                hops.push(hop);
                links.push(link(last, last + 1, LinkKind::Fifo, confidence, evidence));
            }
        }
        last += 1;
        let Some(process) = exec.process else {
            if exec.start_failed.is_none() {
                self.gap_at(
                    GapCode::ProcessUnknown,
                    (last, last),
                    "the command has not been executed in the container yet",
                );
            }
            return;
        };
        let hop = self.hop(process, Role::Process);
        hops.push(hop);
        let mut evidence = vec![Evidence::Fork];
        if exec.pid_file_says == Some(process.tgid) {
            evidence.push(Evidence::PidFile);
        }
        links.push(link(last, last + 1, LinkKind::Exec, Confidence::Exact, evidence));
    }

    fn finish(mut self, id: &str, exec: &Exec, now: BootTime, up: &[Node], hops: Vec<Hop>, links: Vec<Link>) -> Built {
        let streams = exec.stream.is_some() || exec.stream_ambiguous || exec.leaves_by.is_some();
        let kind = if streams { Kind::Exec } else { Kind::Probe };
        let ending = self.ending(exec, up, now);
        let to_the_end = exec.shim.is_some() && (exec.process.is_some() || exec.start_failed.is_some());
        let complete =
            (to_the_end || exec.leaves_by.is_some()) && self.gaps.iter().all(|gap| gap.code == GapCode::KindUnknown);
        if !complete && self.world.last_loss.is_some_and(|lost| lost >= exec.since) {
            self.gap(GapCode::LostEvents, None, "records were lost while this session was open");
        }
        let target = self.target(exec);
        if let (Some(_), Some(process), None) = (ending.closed_at, exec.process, exec.exit) {
            let at = hops.len().saturating_sub(1);
            let text =
                format!("the connections are gone, the process {} goes on running in the container", process.tgid);
            self.gap_at(GapCode::ProcessLeftRunning, (at, at), &text);
        }
        let first_leg = up.last().and_then(|node| node.outbound).and_then(|no| self.world.sockets.get(no));
        let client_end = first_leg.and_then(|near| near.tuple).map(|tuple| tuple.local);
        let beyond_end = self.beyond.iter().find(|(side, _)| *side == "client").map(|(_, address)| *address);
        let client = hops.first().filter(|hop| hop.role == Role::Client).map(|hop| &hop.process);
        let session = Session {
            id: session_id(&self.world.boot_id, id),
            kind,
            state: if ending.closed_at.is_some() { State::Closed } else { State::Open },
            opened_at: first_leg.map_or(exec.since, |near| near.since.min(exec.since)),
            closed_at: ending.closed_at,
            last_seen: now,
            preexisting: false,
            target,
            client: Client {
                address: beyond_end.or(client_end),
                uid: client.and_then(|process| process.uid),
                login_uid: client.and_then(|process| process.login_uid),
            },
            command: exec.command.clone(),
            command_truncated: exec.command_truncated,
            tty: exec.tty,
            stdin: (!exec.streams.is_empty()).then(|| exec.streams.contains("stdin")),
            exec_id: exec.leaves_by.is_none().then(|| id.to_owned()),
            exit: ending.exit,
            hops,
            links,
            beyond: self.beyond,
            gaps: self.gaps,
            complete,
        };
        Built { session, parts: self.parts, wants: self.wants, again_at: ending.again_at }
    }

    fn target(&mut self, exec: &Exec) -> Target {
        if exec.container.is_empty() {
            return Target::default();
        }
        let id = exec.container.clone();
        let mut target = Target { container_id: Some(id.clone()), ..Target::default() };
        match self.world.containers.get(&id) {
            Some(Some(info)) => {
                target.namespace.clone_from(&info.namespace);
                target.pod.clone_from(&info.pod);
                target.pod_uid.clone_from(&info.pod_uid);
                target.container.clone_from(&info.name);
                target.runtime.clone_from(&info.runtime);
            }
            Some(None) => {
                self.gap(GapCode::NamesUnknown, None, "no file of the runtime on this host names this container");
            }
            None => {}
        }
        target
    }

    /// Whether it is over, since when, and how it ended.
    fn ending(&self, exec: &Exec, up: &[Node], now: BootTime) -> Ending {
        let ends = up.iter().flat_map(|node| [node.inbound, node.outbound]).flatten();
        let first_closed = ends.filter_map(|no| self.world.sockets.get(no)?.closed).min();
        let exit = match (exec.exit, exec.start_failed) {
            (Some((_, status)), _) => Some(SessionExit::from(status)),
            (None, Some(_)) => Some(SessionExit { code: None, signal: None, reason: ExitReason::StartFailed }),
            (None, None) => None,
        };
        let ended = exec.exit.map(|(at, _)| at).or(exec.start_failed);
        let unknown = SessionExit { code: None, signal: None, reason: ExitReason::Unknown };
        match (first_closed, ended) {
            (Some(closed), Some(ended)) => Ending { closed_at: Some(closed.max(ended)), exit, again_at: None },
            // No connection to close: CRI ExecSync, or none that is known to be its own.
            (None, Some(ended)) if exec.stream.is_none() => Ending { closed_at: Some(ended), exit, again_at: None },
            // What ran is not on this host, nor how it ended.
            (Some(closed), None) if exec.leaves_by.is_some() => {
                Ending { closed_at: Some(closed), exit: Some(unknown), again_at: None }
            }
            (Some(closed), None) if now.since(closed) >= CLOSE_GRACE => {
                Ending { closed_at: Some(closed), exit: Some(unknown), again_at: None }
            }
            (Some(closed), None) => Ending { closed_at: None, exit: None, again_at: Some(closed.plus(CLOSE_GRACE)) },
            // The process is gone, its connections stand: open (a child may hold its output).
            (None, _) => Ending { closed_at: None, exit: None, again_at: None },
        }
    }

    fn gap(&mut self, code: GapCode, between: Option<(usize, usize)>, text: &str) {
        self.gaps.push(Gap { code, between, text: text.to_owned() });
    }

    fn gap_at(&mut self, code: GapCode, between: (usize, usize), text: &str) {
        self.gap(code, Some(between), text);
    }
}

struct Ending {
    closed_at: Option<BootTime>,
    exit: Option<SessionExit>,
    again_at: Option<BootTime>,
}

fn link(from: usize, to: usize, kind: LinkKind, confidence: Confidence, evidence: Vec<Evidence>) -> Link {
    Link { from, to, kind, confidence, evidence, persistent: false, tcp: None, relay: None, unix: None }
}

/// The same in every command and on every run: boot id and exec id, hashed and cut to ten digits (2^40: among a million
/// sessions of one boot, two share an id with a chance of a third; a prefix is enough to name one).
fn session_id(boot_id: &str, identity: &str) -> SessionId {
    let digest = Sha256::digest(format!("{boot_id}/{identity}"));
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    SessionId(format!("s-{hex}"))
}
