//! F31: output was lost at the end.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F31",
    name: "output was lost at the end",
    short: "output cut",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Any,
    means: "kubectl ended with success but did not receive all of the command's output: the last part is missing \
            without an error. A dump or archive made this way is incomplete.",
    why: "A program on the path closed the connection when the command ended, before it had passed on all bytes.",
    needs: "A session traced to its end, with the bytes of its closed legs, and a kubectl on this host. Encryption and \
            framing only add bytes, so fewer bytes at kubectl than from the runtime mean loss.",
    apart: &[
        Apart { code: "F30", by: "no daemon ended, and kubectl reports success" },
        Apart { code: "F16", by: "the session is over" },
    ],
    next: &[
        "Do not trust that output. Check its length, or a checksum made inside the container.",
        "Copy important data in another way (a volume, an upload), or end the command with `; sleep 1`.",
    ],
    manual: &[
        "kubectl exec … -- sh -c 'COMMAND | tee /tmp/out | wc -c'   # compare with what process {kubectl} got",
        "ss -tni dst {remote}   # bytes_received, while it is tried again",
    ],
    sources: &["kubernetes/kubernetes#73056", "kubernetes/kubernetes#124571", "cilium/cilium#34939"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// The most that one framing can add beyond the other: SPDY's headers and pings on one leg alone.
const FRAMING: u64 = 16_384;

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    // A user who ended kubectl did not want the rest.
    let success = ctx.client_exit() == Some(ExitStatus::Code(0));
    let closed_at = ctx.session.closed_at.filter(|_| success && ctx.is_seen_whole())?;
    let stream = ctx.leg_to(Role::Runtime)?;
    let client = ctx.legs().into_iter().find(|leg| leg.near_hop == Some(0))?;
    let ((_, printed), (_, got)) = (ctx.bytes(&stream)?, ctx.bytes(&client)?);
    // SPDY's frames have 8 bytes for 32 KiB at most, and small ones as many as WebSocket's.
    let lost = printed.checked_sub(got).filter(|lost| *lost > FRAMING.max(printed / 20))?;
    let about = About {
        pid: Some(ctx.session.hops.first()?.task.tgid),
        local: client.tuple.map(|tuple| tuple.local),
        remote: client.tuple.map(|tuple| tuple.remote),
        ..About::default()
    };
    Some(
        RuleMatch { hop: Some(0), link: client.link, about, since: Some(closed_at), ..RuleMatch::default() }
            .with(number("received from the runtime", printed, "bytes"))
            .with(number("received by kubectl", got, "bytes"))
            .with(number("lost at least", lost, "bytes"))
            .with(number("exit code of kubectl", 0, "")),
    )
}

#[cfg(test)]
use crate::{diagnose::fixture::Fixture, model::SessionExit};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], printed: u64, got: u64, exit: ExitStatus| {
        let mut fixture = Fixture::new(about, named);
        fixture.closes_after(9_000);
        fixture.exits(SessionExit { code: Some(0), signal: None, reason: ExitReason::Exited });
        fixture.session(|session| {
            session.hops[0].exit = Some(exit);
            for (link, received) in [(0, got), (4, printed)] {
                let leg = session.links[link].tcp.as_mut().unwrap();
                (leg.sent, leg.received) = (Some(900), Some(received));
            }
        });
        fixture
    };
    let code = ExitStatus::Code;
    vec![
        of("the last half of a megabyte is missing", &["F31"], 1_048_576, 524_288, code(0)),
        of("all of it, with TLS", &[], 1_048_576, 1_060_000, code(0)),
        of("other frames", &[], 1_048_576, 1_040_000, code(0)),
        of("Ctrl-C", &[], 1_048_576, 524_288, ExitStatus::Signal(2)),
    ]
}
