//! F43: the container is starved of CPU time.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F43",
    name: "the container is starved of CPU time",
    short: "no CPU time",
    severity: Severity::Fault,
    step: Step::Doing,
    kinds: Kinds::Command,
    means: "The command is ready to run, and its container may use a tenth of one CPU at most. The kernel stopped the \
            container in nearly every period between the samples: everything in it runs more slowly by a factor of ten or \
            more.",
    why: "A CPU limit (`resources.limits.cpu`) that is too small for this command, or another process of the container \
          that uses up the limit.",
    needs: "Two samples of the command's state and of cpu.stat, 10 or more periods apart. A limit of more than a tenth of a \
            CPU is not named, nor is a command that waits.",
    apart: &[
        Apart { code: "F10", by: "the container is not frozen: it runs in each period until its time is used up" },
        Apart { code: "F22", by: "the command is ready to run" },
        Apart { code: "F23", by: "the command is ready to run" },
    ],
    next: &[
        "Raise the container's CPU limit (`resources.limits.cpu`), or take it away.",
        "Look for another process in the container that uses CPU time.",
    ],
    manual: &[
        "tail /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/cpu.* # cpu.max, and nr_throttled of cpu.stat",
        "tail /sys/fs/cgroup/cpu$(sed -n 's/.*[:,]cpu[,:][^/]*//p' /proc/{pid}/cgroup)/cpu.* # cgroup v1",
    ],
    sources: &["kubernetes/kubernetes#126652", "kubernetes/kubernetes#70585"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Fewest periods between the samples.
const PERIODS: u64 = 10;
/// Share of a CPU above which a limit is not named: one part in this many.
const SHARE: u64 = 10;

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, hop, series) = ctx.command().filter(|_| ctx.is_open())?;
    let (last, before) = both(series)?;
    let (now, then) = (last.cgroup?, before.cgroup?);
    let (quota, period) = (now.cpu_quota_us?, now.cpu_period_us.filter(|period| *period > 0)?);
    let is_same = (then.cpu_quota_us, then.cpu_period_us) == (Some(quota), Some(period));
    let is_small = quota.saturating_mul(SHARE) <= period;
    let runs = twice(series, |one| one.state == 'R') && now.frozen == Some(false);
    // Periods count only while the group has something to run: those that passed are more, if it had nothing.
    let (since, _) = series.before.as_ref()?;
    let passed = series.at.since(*since).0 / 1_000 / period;
    let stopped = now.cpu_throttled?.checked_sub(then.cpu_throttled?)?;
    if !is_same || !is_small || !runs || passed < PERIODS || stopped.saturating_mul(10) < passed.saturating_mul(9) {
        return None;
    }
    let about = About { pid: Some(hop.task.tgid), ..About::default() };
    let state = word(format!("state of the command (pid {})", hop.task.tgid), "R");
    Some(
        RuleMatch { hop: Some(at), about, since: Some(*since), ..RuleMatch::default() }
            .with(number("CPU time that the container may use in a period", quota, "us"))
            .with(number("length of a period", period, "us"))
            .with(number("periods between the samples", passed, ""))
            .with(number("periods in which the container was stopped", stopped, ""))
            .with(state),
    )
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, PROCESS};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], state: char, quota: u64, stopped: u64| {
        let mut fixture = Fixture::new(about, named);
        fixture.process(PROCESS, |process, number| {
            process.state = state;
            process.threads[0].state = state;
            if state == 'R' {
                process.threads[0].call = None;
            }
            let cgroup = process.cgroup.as_mut().unwrap();
            (cgroup.cpu_quota_us, cgroup.cpu_period_us) = (Some(quota), Some(100_000));
            (cgroup.cpu_periods, cgroup.cpu_throttled) = (Some(500 + 30 * number), Some(400 + stopped * number));
        });
        fixture
    };
    let mut raised = of("the limit was raised between the samples", &[], 'R', 1_000, 30);
    raised.process(PROCESS, |process, number| {
        if number == 0 {
            process.cgroup.as_mut().unwrap().cpu_quota_us = Some(500);
        }
    });
    let mut frozen = of("the container is frozen", &["F10"], 'R', 1_000, 30);
    frozen.process(PROCESS, |process, _| process.cgroup.as_mut().unwrap().frozen = Some(true));
    vec![
        of("stopped in every period", &["F43"], 'R', 1_000, 30),
        of("stopped in half of the periods", &[], 'R', 1_000, 15),
        of("half of a CPU, and it would use more", &[], 'R', 50_000, 30),
        of("another process uses the limit up, and the command sleeps", &[], 'S', 1_000, 30),
        raised,
        frozen,
    ]
}
