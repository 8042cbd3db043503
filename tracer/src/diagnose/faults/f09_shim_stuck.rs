//! F09: the shim is stuck.

use super::{
    prelude::*,
    signs::{has_not_opened, idle_shim, is_sandboxed},
};
use crate::model::Reading;

pub(super) const FAULT: Fault = Fault {
    code: "F09",
    name: "the shim is stuck",
    short: "shim stuck",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Command,
    means: "The runtime has made the exec's FIFOs and asked the pod's shim to start it, but the shim has started \
            nothing. Every exec, probe and stop of that pod hangs; other pods are not affected.",
    why: "The shim waits for a lock of its own or for a child that it lost, or a signal stopped it. Its container may \
          be gone while the runtime believes that it runs.",
    needs: "Two samples of the shim's process show that it is stopped. For a shim that is not stopped: a trace in \
            which the runtime made the FIFOs, and either two samples of its socket's queue, or the descriptors of \
            runtime and shim.",
    apart: &[
        Apart { code: "F08", by: "the runtime answered and has made the exec's FIFOs" },
        Apart { code: "F10", by: "runc was not started" },
        Apart { code: "F24", by: "this shim starts runc on this host" },
    ],
    next: &[
        "Save the shim's stacks for a report (SIGUSR1 to containerd-shim-runc-v2), then delete the pod.",
        "If the pod does not go away, kill the shim. Its containers end with it, and the runtime cleans up.",
    ],
    manual: &[
        "grep -e State -e Threads /proc/{pid}/status",
        "pgrep -lP {pid}   # its children: no runc",
        "timeout 5 ctr -n k8s.io task ls",
        "kill -USR1 {pid}   # stacks of its goroutines",
    ],
    sources: &[
        "containerd/containerd#13849",
        "containerd/containerd#14081",
        "containerd/containerd#2709",
        "moby/moby#40145",
    ],
    made: Made::Lab,
    rule: Rule::Daemon(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    // A stopped shim passes nothing on and starts nothing, whatever the state of the session.
    let stopped = ctx.shim().filter(|shim| ctx.is_open() && ctx.is_stopped(*shim));
    let idle = idle_shim(ctx);
    let shim = stopped.or(idle)?;
    let unread = idle.and_then(|shim| unread_requests(ctx, shim));
    // A guest that does not answer keeps its shim waiting.
    let silent = idle.is_some() && has_not_opened(ctx, shim) && is_sandboxed(ctx, shim) == Some(false);
    if stopped.is_none() && unread.is_none() && !silent {
        return None;
    }
    let about = About { pid: Some(shim.tgid), ..About::default() };
    let hop = ctx.hop(Role::Shim).or_else(|| ctx.hop(Role::Runtime)).map(|(at, _)| at);
    let mut found = RuleMatch { hop, about, task: Some(shim), ..RuleMatch::default() };
    if idle.is_some() {
        found = found.with(number("since the runtime made the FIFOs, without a runc", ctx.age().as_millis(), "ms"));
    }
    if stopped.is_some() {
        found = found.with(is_stopped(shim));
    }
    if let Some(bytes) = unread {
        found = found.with(number("recv_q of the shim's socket, unread", bytes.into(), "bytes"));
    }
    if silent {
        found = found.with(number("FIFOs of the exec that are open in the shim", 0, ""));
    }
    Some(found)
}

/// Stopped shims: a stopped shim starts nothing and passes nothing on.
fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let stopped = host.all(Role::Shim).filter(|shim| host.is_stopped(*shim));
    let found = |shim: TaskKey| {
        let about = About { pid: Some(shim.tgid), ..About::default() };
        let found = RuleMatch { about, task: Some(shim), ..RuleMatch::default() }.with(is_stopped(shim));
        match host.unopened_by(shim) {
            0 => found,
            waiting => {
                found.with(number("execs whose FIFOs are open in the runtime but not in the shim", waiting as u64, ""))
            }
        }
    };
    stopped.map(found).collect()
}

fn is_stopped(shim: TaskKey) -> Reading {
    word(format!("state of the shim (pid {})", shim.tgid), "T")
}

/// The unread queue of a socket that the shim holds, if it has not shrunk between the samples.
fn unread_requests(ctx: &SessionCtx<'_>, shim: TaskKey) -> Option<u32> {
    ctx.host.report.measures.unixes_of(shim).find_map(|(_, _, series)| {
        let (last, before) = both(series)?;
        (before.recv_q > 0 && last.recv_q >= before.recv_q).then_some(last.recv_q)
    })
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{CONTAINER, Fixture, SHIM, fifo, pipe},
    model::{Access, UnixMeasure},
};

#[cfg(test)]
pub(super) fn unstarted(about: &'static str, named: &'static [&'static str], exe: &str) -> Fixture {
    let mut fixture = Fixture::new(about, named);
    fixture.ends_after(4);
    fixture.gap(GapCode::RuncUnknown);
    fixture.each(|sample, _| {
        sample.descriptors.remove(&SHIM);
        // The container's own FIFO, by which the shim is known.
        sample.hold(SHIM, fifo(9, 99, Access::Write, CONTAINER, "stdout"));
        sample.processes.get_mut(&SHIM).unwrap().exe = Some(exe.into());
    });
    fixture
}

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let runc = "/usr/bin/containerd-shim-runc-v2";
    let mut stopped = unstarted("the shim is stopped", &["F09"], runc);
    stopped.process(SHIM, |process, _| process.state = 'T');
    let mut unread = unstarted("the shim does not read its socket", &["F09"], "/usr/bin/containerd-shim-kata-v2");
    unread.session(|session| session.opened_at = session.opened_at.plus(Span::from_secs(40)));
    unread.each(|sample, _| {
        sample.hold(SHIM, crate::model::Descriptor { kind: FileKind::Socket, ..pipe(5, 91, true) });
        let path = "/run/containerd/s/0123456789abcdef".into();
        sample.unix.insert(91, (path, UnixMeasure { recv_q: 400, send_q: 0 }));
    });
    let mut early = unstarted("it was told to start a moment ago", &[], runc);
    early.session(|session| session.opened_at = session.opened_at.plus(Span::from_secs(58)));
    let at_work = |about, named: &'static [&'static str], states: [char; 2]| {
        let mut fixture = Fixture::new(about, named);
        fixture.process(SHIM, |process, number| process.state = states[usize::try_from(number).unwrap()]);
        fixture.waits(crate::diagnose::fixture::PROCESS, "read", Some(0));
        fixture
    };
    let mut nobodys = at_work("a shim is stopped that no session goes through", &["F09"], ['T'; 2]);
    nobodys.daemons.push((SHIM, Role::Shim));
    nobodys.closes_after(50_000);
    let older = {
        let mut fixture = unstarted("older than the tracer: runc was not seen", &[], runc);
        fixture.session(|session| session.preexisting = true);
        fixture
    };
    vec![
        at_work("the shim of a session at work is stopped", &["F09"], ['T'; 2]),
        at_work("the shim was stopped for a moment", &["F23"], ['T', 'S']),
        nobodys,
        stopped,
        unstarted("the shim opens no FIFO", &["F09"], runc),
        unread,
        early,
        older,
    ]
}
