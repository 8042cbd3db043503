//! The user of a session: the client's process on this host, and the user in the audit log.

use std::{net::SocketAddr, sync::Arc};

use super::upstream::{Builder, Node};
use crate::correlate::{
    limits::{AUDIT_CLOSED, AUDIT_OLDER, AUDIT_SETTLED, REQUEST_WITHIN, TICK},
    state::{
        anchor::{Anchor, AnchorKind},
        anchor_id::AnchorId,
        audit::{Command, CommandSource, RequestCriteria, UserQuery},
    },
};
use crate::model::{BootTime, Client, GapCode, Hop, Kind, RawText, Role, Subresource, Target, Want};

impl Builder<'_> {
    /// The client: facts from its own process if it runs on this host, else its address alone.
    pub(in crate::correlate) fn client(&mut self, hop: Option<&Hop>, address: Option<SocketAddr>) -> Client {
        let Some(Hop { task, process, .. }) = hop else { return Client { address, ..Client::default() } };
        let ancestry = self.state.processes.get(*task).and_then(|process| process.ancestry.as_ref());
        if ancestry.is_none() {
            self.wants.push(Want::Ancestry(*task));
        }
        let name = |uid: Option<u32>| ancestry?.names.get(&uid?).cloned();
        Client {
            address,
            uid: process.uid,
            uid_name: name(process.uid),
            login_uid: process.login_uid,
            login_name: name(process.login_uid),
            tty: process.tty.clone(),
            parents: ancestry.map(|ancestry| Arc::clone(&ancestry.parents)),
            ..Client::default()
        }
    }

    /// Query to the audit log; `None` without a log, or for a session without a request to the API server.
    pub(in crate::correlate) fn user_query(
        &self,
        anchor: &Anchor,
        up: &[Node],
        hops: &[Hop],
        kind: Kind,
        target: &Arc<Target>,
        now: BootTime,
    ) -> Option<UserQuery> {
        let followed = self.state.audits.followed?;
        let unknown = self.gaps.iter().any(|gap| gap.code == GapCode::KindUnknown);
        // Subresources that can have started a session of this kind.
        let subresources: &[Subresource] = match kind {
            Kind::Probe | Kind::Local | Kind::Logs | Kind::Start | Kind::Request => return None,
            _ if unknown => &[Subresource::Exec, Subresource::Attach, Subresource::PortForward],
            Kind::Exec | Kind::Cp => &[Subresource::Exec],
            Kind::Attach | Kind::Debug => &[Subresource::Attach],
            Kind::PortForward => &[Subresource::PortForward],
        };
        let client = hops.first().filter(|hop| hop.role == Role::Client);
        let server = up.iter().position(|node| node.role == Role::ApiServer);
        let socket = |idx| self.state.sockets.get(idx);
        let inbound = server.and_then(|at| up.get(at)?.inbound).and_then(socket);
        let ends = inbound.into_iter().chain(inbound.and_then(|far| socket(far.peer?)));
        // Earliest time: the API server accepted the request's connection, or an older client was started.
        let begun = ends.filter_map(|end| end.begun).min();
        let born = client.map(|hop| BootTime(hop.task.start_ns())).filter(|_| anchor.preexisting);
        // Latest time: the first act of the API server below the request, or the first consequence of one.
        let below = up.get(..server.unwrap_or(up.len())).unwrap_or_default();
        let legs = below.iter().filter_map(|node| node.inbound).chain(server.and_then(|at| up.get(at)?.outbound));
        let started = anchor.process().filter(|_| anchor.preexisting).map(|task| BootTime(task.start_ns()).plus(TICK));
        let to = legs.filter_map(socket).map(|leg| leg.since).chain(started).fold(anchor.since, BootTime::min);
        let known = begun.or(born);
        let from = match (known, started) {
            (Some(from), _) => from,
            (None, None) if anchor.preexisting => BootTime::default(),
            (None, _) => to.minus(REQUEST_WITHIN),
        };
        let to = to.max(from);
        // The answer is due once its process has started, or cannot start any more.
        let ripe = anchor.process().is_some() || anchor.start_failed().is_some() || anchor.preexisting;
        let due = if anchor.preexisting {
            Some(followed.max(anchor.since).plus(AUDIT_OLDER))
        } else {
            let waits = matches!(anchor.kind(), AnchorKind::Exec | AnchorKind::UnnamedExec) && !ripe;
            (!waits).then(|| anchor.since.plus(AUDIT_SETTLED))
        };
        // The request was still under way when the first connection of the path closed.
        let ends = up.iter().flat_map(|node| [node.inbound, node.outbound]).flatten();
        let closed = ends.filter_map(|idx| socket(idx)?.closed).min();
        let fifos = anchor.as_exec().map(|exec| &exec.fifos);
        let criteria = RequestCriteria {
            subresources,
            target: Arc::clone(target),
            command: client.and_then(|client| self.command_by_kubectl(client)).or_else(|| command_seen(anchor)),
            tty: anchor.tty(),
            // Closed FIFOs are no longer found, so an older exec without one may have had stdin.
            stdin: fifos.filter(|fifos| !anchor.preexisting && !fifos.is_empty()).map(|fifos| fifos.contains("stdin")),
            address: inbound.and_then(|far| far.tuple).map(|tuple| tuple.remote.ip().to_canonical()),
            between: (from, to),
            timed: known.is_some(),
            alive_at: now.min(closed.unwrap_or(now)).min(due.unwrap_or(now)),
            older: anchor.preexisting,
            started: matches!(anchor.kind(), AnchorKind::Exec | AnchorKind::UnnamedExec),
            doubted: self.state.losses.between(from, anchor.since.plus(AUDIT_SETTLED)),
        };
        // A client that talks to the kubelet directly appears in no audit log. Of an older session only parts
        // are known at first.
        let first = hops.first().map(|hop| hop.role);
        let is_fragment = anchor.preexisting && !matches!(first, Some(Role::Client | Role::Proxy));
        let early = !anchor.preexisting && known.is_none() && now < anchor.since.plus(AUDIT_SETTLED);
        Some(UserQuery { criteria, due, early, via_apiserver: server.is_some() || is_fragment })
    }

    /// The command in kubectl's arguments, after `--`.
    fn command_by_kubectl(&self, client: &Hop) -> Option<Command> {
        let argv = &client.process.argv;
        let is_exec = self.state.kind_by_kubectl(client) == Some(Kind::Exec);
        let at = argv.iter().position(|word| word.as_bytes() == b"--").filter(|_| is_exec)?;
        let words: Arc<[RawText]> = argv.get(at + 1..)?.into();
        Some(Command { words, truncated: client.process.argv_truncated, from: CommandSource::Client })
    }

    /// Time until which the end of a session is held back, because a request for it may still arrive in the log.
    pub(in crate::correlate) fn held_until(&self, id: &AnchorId, user_query: &UserQuery, closed: BootTime) -> BootTime {
        if self.state.audits.ended {
            return closed;
        }
        let settled = user_query.due.unwrap_or_default();
        if self.state.audits.has_one(id) { settled } else { settled.max(closed.plus(AUDIT_CLOSED)) }
    }
}

/// The command of the process in the container.
fn command_seen(anchor: &Anchor) -> Option<Command> {
    let from = if anchor.preexisting { CommandSource::Process } else { CommandSource::Start };
    let (words, truncated) = anchor.command();
    (!words.is_empty()).then_some(Command { words, truncated, from })
}
