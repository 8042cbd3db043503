//! Reasons against reporting a session without a fault as healthy. The first that applies explains most.

use std::collections::BTreeMap;

use super::{
    ctx::SessionCtx,
    fault::Fault,
    finding::{RuleMatch, Step},
    host::Host,
    legs::is_silent_beyond,
    samples::both,
};
use crate::model::{Hop, Kind, LinkKind, Role, SessionId, TcpState, Verdict};

/// A doubt about a session whose hops all run: a fault of no session at one of its daemons, or an unknown command.
/// `left_over` holds the faults of no session.
pub(super) fn trouble(ctx: &SessionCtx<'_>, left_over: &[(&'static Fault, RuleMatch)]) -> Option<String> {
    if !ctx.is_open() || ctx.session.kind.is_event() {
        return None;
    }
    fault_nearby(ctx, left_over).or_else(|| lacks_process(ctx))
}

/// The first hop from the client that is stopped, in state D or ended, by the last sample.
pub(super) fn idle_hop(ctx: &SessionCtx<'_>) -> Option<String> {
    if !ctx.is_open() || ctx.session.kind.is_event() {
        return None;
    }
    ctx.session.hops.iter().find_map(|hop| {
        // runc ends as soon as the command runs.
        let is_over = hop.role == Role::Runc && hop.exit.is_some();
        let state = ctx.process(hop.task).filter(|_| !is_over).map(|series| series.last.state);
        let how = match state {
            Some('T') => "is stopped (state T)",
            Some('t') => "is stopped by a debugger (state t)",
            Some('D') => "is in uninterruptible sleep (state D)",
            Some('Z' | 'X') => "has ended, but the session is open",
            _ if hop.exit.is_some() && hop.role != Role::Runc => "has ended, but the session is open",
            _ => return None,
        };
        Some(format!("{} {how}", named(hop)))
    })
}

/// A fault of no session at a process on the path, or at the shim of the pod. Leftovers of ended sessions
/// ([`Step::Ends`]) hold up no session: one old leak on a node must not put every later session in doubt.
fn fault_nearby(ctx: &SessionCtx<'_>, left_over: &[(&'static Fault, RuleMatch)]) -> Option<String> {
    left_over.iter().filter(|(fault, _)| fault.step != Step::Ends).find_map(|(fault, found)| {
        let task = found.task.filter(|task| ctx.hangs_on(*task))?;
        let hop = ctx.session.hops.iter().find(|hop| hop.task == task);
        let place = hop.map_or_else(|| format!("the shim (pid {})", task.tgid), named);
        Some(format!("{place} has fault {}: {}", fault.code, fault.name))
    })
}

/// A session that starts a command on this host, without a known process of that command.
fn lacks_process(ctx: &SessionCtx<'_>) -> Option<String> {
    let session = ctx.session;
    let starts = matches!(session.kind, Kind::Exec | Kind::Cp | Kind::Local | Kind::Probe);
    let is_elsewhere = session.beyond.iter().any(|(side, _)| matches!(*side, "node" | "apiserver"));
    if !starts || is_elsewhere || ctx.hop(Role::Process).is_some() {
        return None;
    }
    Some(match session.gaps.last() {
        Some(gap) => format!("the command's process is not known: {}", gap.text),
        None => "the command's process is not known".to_owned(),
    })
}

/// The reason if too little was measured to rule out a fault. `None` requires a measured command or leg, no silent leg
/// to another host, and nothing that a single sample leaves open.
pub(super) fn unmeasured(ctx: &SessionCtx<'_>) -> Option<String> {
    let legs = ctx.legs();
    let ends = || legs.iter().flat_map(|leg| [leg.near, leg.far]).flatten().filter_map(|end| end.series);
    let reason = if ends().next().is_none() && ctx.command().is_none() {
        "neither a connection nor the command was measured"
    } else if ends().any(|series| series.last.state != TcpState::Established) {
        "a connection of the path is being closed"
    } else if ends().any(|series| (series.last.recv_q > 0 || series.last.send_q > 0) && both(series).is_none()) {
        "bytes are queued: one sample cannot show if they move"
    } else if legs.iter().any(is_silent_beyond) {
        "the other host has been silent for longer than a minute"
    } else if !is_served(ctx) {
        // A kubectl that waits for an answer is not healthy, even if its one leg is.
        "no kubelet, runtime or process is known to serve it"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

fn is_served(ctx: &SessionCtx<'_>) -> bool {
    let serves = |hop: &Hop| matches!(hop.role, Role::Kubelet | Role::Runtime | Role::Process);
    ctx.session.kind == Kind::Logs || !ctx.session.beyond.is_empty() || ctx.session.hops.iter().any(serves)
}

/// Adds the other half to the reason of a session without a process. A session found after its start may be reported in
/// two halves, stream and command, and the fault is reported at the command's.
pub(super) fn name_other_halves(host: &Host<'_>, verdicts: &[Verdict], doubts: &mut BTreeMap<SessionId, String>) {
    for session in host.open() {
        let lacks = session.hops.last().is_some_and(|hop| hop.role == Role::Runtime) && session.exec_id.is_none();
        let Some(doubt) = doubts.get_mut(&session.id).filter(|_| lacks) else { continue };
        let runtime = session.hops.last().map(|hop| hop.task);
        let half = host.open().find_map(|other| {
            let is_half = other.exec_id.is_some()
                && other.hops.first().map(|hop| hop.task) == runtime
                && !other.links.iter().any(|link| link.kind == LinkKind::Tcp);
            verdicts.iter().find(|verdict| is_half && verdict.session.as_ref() == Some(&other.id))
        });
        if let Some((verdict, id)) = half.and_then(|verdict| Some((verdict, verdict.session.as_ref()?))) {
            doubt.push_str(&format!("; session {} may be its other half, with fault {}", id.0, verdict.code));
        }
    }
}

/// Name and pid of a hop.
fn named(hop: &Hop) -> String {
    let role = match hop.role {
        Role::Client => "the client",
        Role::Proxy => "the proxy",
        Role::ApiServer => "the API server",
        Role::Etcd => "etcd",
        Role::Kubelet => "the kubelet",
        Role::Runtime => "the runtime",
        Role::Shim => "the shim",
        Role::Runc => "runc",
        Role::Process => "the command",
    };
    format!("{role} (pid {})", hop.task.tgid)
}
