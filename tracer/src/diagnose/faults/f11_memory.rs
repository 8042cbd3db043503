//! F11: the start is stuck in memory reclaim.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F11",
    name: "the start is stuck in memory reclaim",
    short: "memory",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Command,
    means: "runc has started in the container's cgroup, whose memory is exhausted. It spends CPU time on memory \
            reclaim in the kernel instead of becoming the command.",
    why: "The container is at its memory limit and the kernel can reclaim nothing. The new process has to fit in as \
          well.",
    needs: "Two samples of `runc:[2:INIT]`, a child of `runc exec`: its CPU time, and its cgroup's memory and events.",
    apart: &[
        Apart { code: "F10", by: "it uses CPU time" },
        Apart { code: "F12", by: "the exceeded limit is the memory limit" },
        Apart { code: "F22", by: "it runs" },
    ],
    next: &["Raise the container's memory limit, or end the process that fills it; then run the exec again."],
    manual: &[
        "cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/memory.events",
        "cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/memory.current",
        "cat /proc/{pid}/stack   # shrink_…: reclaim",
    ],
    sources: &["opencontainers/runc#1432"],
    made: Made::Scenario("not reproducible on demand: at the limit the kernel kills runc's init, or lets it in"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// A start takes milliseconds.
const LONG: Span = Span::from_secs(5);

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let begun = ctx.is_open() && ctx.age() >= LONG;
    ctx.beginnings().into_iter().filter(|_| begun).find_map(|(task, series)| {
        let (last, before) = both(series)?;
        let (now, then) = (last.cgroup?, before.cgroup?);
        let (memory, most) = (now.memory?, now.memory_max?);
        let hits = now.memory_limit_hits?.saturating_sub(then.memory_limit_hits?);
        let high =
            now.memory_high_events.zip(then.memory_high_events).map_or(0, |(now, then)| now.saturating_sub(then));
        let ticks = (last.user_ticks + last.system_ticks).saturating_sub(before.user_ticks + before.system_ticks);
        // A page cache keeps a container near its limit all the time. Evidence is only that the start does not get
        // through.
        if hits + high == 0 || ticks == 0 || memory < most / 10 * 9 {
            return None;
        }
        let about = About { pid: Some(task.tgid), ..About::default() };
        let since = series.before.as_ref().map(|(at, _)| *at);
        Some(
            RuleMatch { hop: ctx.session.hops.len().checked_sub(1), about, since, ..RuleMatch::default() }
                .with(number("memory of the container", memory, "bytes"))
                .with(number("its limit", most, "bytes"))
                .with(number("hits of the limit between the samples", hits + high, ""))
                .with(number("CPU time of runc's init between the samples", ticks * 10, "ms")),
        )
    })
}

#[cfg(test)]
use super::f10_frozen::beginning;
#[cfg(test)]
use crate::{diagnose::fixture::Fixture, model::CgroupMeasure};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], hits: u64, ticks: u64| {
        let mut fixture = beginning(about, named);
        fixture.process(595, |process, number| {
            process.state = 'R';
            process.system_ticks += number * ticks;
            process.cgroup = Some(CgroupMeasure {
                frozen: Some(false),
                memory: Some(67_000_000),
                memory_max: Some(67_108_864),
                memory_limit_hits: Some(900 + number * hits),
                ..CgroupMeasure::default()
            });
        });
        fixture
    };
    vec![
        of("no page is free", &["F11"], 4_000, 250),
        of("full, and nothing asks for more", &[], 0, 250),
        of("it does not run", &[], 4_000, 0),
    ]
}
