//! F06: the client opened no streams.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F06",
    name: "the client opened no streams",
    short: "no streams",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The connection reached the runtime, but the client did not open the streams for stdin, stdout and errors \
            in time. The runtime closes the connection after 30 seconds and starts nothing.",
    why: "The client died or hung right after the upgrade, a proxy passes the upgrade and holds back the rest, or a \
          client library opens other streams than the runtime expects.",
    needs: "A client on this host whose arguments identify an exec, and two samples while the runtime waits; or a \
            trace of the whole session.",
    apart: &[
        Apart { code: "F07", by: "the runtime waited 30 seconds before it closed the connection" },
        Apart { code: "F09", by: "the runtime never made the FIFOs, so the shim got no request" },
    ],
    next: &[
        "Run kubectl on the API server's host. If that works, check the load balancer or proxy in front of the API \
         server.",
        "Search the runtime's log for `timed out waiting for client to create streams`.",
    ],
    manual: &["journalctl _PID={runtime} | grep -i 'create streams'", "ss -tnpi dst {remote}   # while it lasts"],
    sources: &["containerd/containerd#1817", "k8s.io/kubelet, pkg/cri/streaming: DefaultStreamCreationTimeout = 30 s"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// The timeout of cri-streaming with its tolerance.
const GIVEN_UP: std::ops::RangeInclusive<u64> = 29_500..=33_000;
/// A client opens its streams in the round trip after the upgrade.
const LONG: Span = Span::from_secs(5);

/// The leg of a closed exec session to a runtime that never got an exec.
pub(super) fn idle_stream<'a>(ctx: &SessionCtx<'a>) -> Option<Leg<'a>> {
    let sure = nothing_ran(ctx) && ctx.is_seen_whole() && !ctx.may_be_in_two();
    ctx.leg_to(Role::Runtime).filter(|_| sure && !ctx.is_open())
}

fn nothing_ran(ctx: &SessionCtx<'_>) -> bool {
    let is_exec = matches!(ctx.session.kind, Kind::Exec | Kind::Cp) && !ctx.has_gap(&[GapCode::KindUnknown]);
    is_exec && ctx.last_role() == Some(Role::Runtime) && ctx.session.exec_id.is_none()
}

/// The match at the runtime's end of that leg.
pub(super) fn at_runtime(ctx: &SessionCtx<'_>, leg: &Leg<'_>) -> RuleMatch {
    let RuleMatch { about, .. } = ctx.found_at(&leg.near_side());
    let pid = ctx.hop(Role::Runtime).map(|(_, hop)| hop.task.tgid);
    let about = About { pid, inode: None, ..about };
    RuleMatch { hop: leg.far_hop, link: leg.link, about, since: ctx.session.closed_at, ..RuleMatch::default() }
}

/// The runtime is still waiting: nothing followed the request.
fn while_it_lasts(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    if !ctx.is_open() || !nothing_ran(ctx) || ctx.age() < LONG {
        return None;
    }
    let leg = ctx.leg_to(Role::Runtime)?;
    let runtime = leg.far?.series?;
    // The request fits into one segment on loopback. Each opened stream sends at least one more.
    let asked_alone =
        twice(runtime, |tcp| tcp.info.is_some_and(|info| info.data_segments_in == 1 && info.bytes_acked > 0));
    if !asked_alone || runtime.last.state != TcpState::Established {
        return None;
    }
    let waits = runtime.last.info?.last_received_ms;
    Some(at_runtime(ctx, &leg).with(number(
        "since the runtime got the request, without any stream",
        waits.into(),
        "ms",
    )))
}

fn afterwards(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let lasted = Some(ctx.age().as_millis()).filter(|lasted| GIVEN_UP.contains(lasted))?;
    let leg = idle_stream(ctx)?;
    Some(at_runtime(ctx, &leg).with(number("the runtime waited for streams, then closed the connection", lasted, "ms")))
}

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    while_it_lasts(ctx).or_else(|| afterwards(ctx))
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, On, info};

#[cfg(test)]
pub(super) fn ended(about: &'static str, named: &'static [&'static str], millis: u64) -> Fixture {
    let mut fixture = Fixture::new(about, named);
    fixture.ends_after(4);
    fixture.session(|session| session.exec_id = None);
    fixture.closes_after(millis);
    fixture
}

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let mut attach = ended("attach starts nothing", &[], 30_000);
    attach.session(|session| session.kind = Kind::Attach);
    let mut unknown = ended("whether it is an exec is not known", &[], 30_000);
    unknown.gap(GapCode::KindUnknown);
    let mut two = ended("dockerd: stream and exec are told apart", &[], 30_000);
    let mut exec = two.sessions[0].clone();
    exec.id.0 = "s-exec".into();
    exec.links.clear();
    two.sessions.push(exec);
    let waits = |about, named: &'static [&'static str], segments: u32| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(4);
        fixture.session(|session| session.exec_id = None);
        fixture.far(On::Stream, |tcp, _| info(tcp).data_segments_in = segments);
        fixture
    };
    vec![
        waits("the runtime has the request, and nothing behind it", &["F06"], 1),
        waits("streams were opened", &[], 4),
        ended("given up after 30 seconds", &["F06"], 30_040),
        ended("ended by the user after a minute", &[], 60_000),
        attach,
        unknown,
        two,
    ]
}
