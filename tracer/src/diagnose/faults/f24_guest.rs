//! F24: the sandbox's guest does not answer.

use super::{
    prelude::*,
    signs::{has_not_opened, idle_shim, is_sandboxed},
};

pub(super) const FAULT: Fault = Fault {
    code: "F24",
    name: "the sandbox's guest does not answer",
    short: "guest silent",
    severity: Severity::Fault,
    step: Step::Silence,
    kinds: Kinds::Command,
    means: "The pod runs in a virtual machine or a user-space kernel (Kata, gVisor). This host has done its part, but \
            the agent that starts the command inside does not answer.",
    why: "The agent in the guest hangs or lost its connection (vsock), the guest is out of memory or stopped, or \
          gVisor's sentry hangs.",
    needs: "A trace in which the runtime made the FIFOs, and the descriptors of runtime and shim: the shim opens the \
            FIFOs once the guest has started the command. The inside of the guest is not visible.",
    apart: &[
        Apart { code: "F09", by: "the shim is Kata's or gVisor's, and is not stopped" },
        Apart { code: "F08", by: "the runtime answered" },
    ],
    next: &[
        "Inspect the guest: kata-runtime exec, the hypervisor's console, runsc debug --stacks.",
        "If the guest does not recover, delete the pod: its sandbox ends with it.",
    ],
    manual: &[
        "pgrep -alP {pid}   # the hypervisor or the sentry",
        "ls -l /proc/{pid}/fd | grep -c fifo",
        "ss --vsock -p",
    ],
    sources: &[
        "kata-containers/kata-containers#5249",
        "kata-containers/kata-containers#869",
        "google/gvisor#14548",
        "google/gvisor#9383",
    ],
    made: Made::Scenario("needs Kata or gVisor: neither is in the lab"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let shim = idle_shim(ctx).filter(|shim| has_not_opened(ctx, *shim) && is_sandboxed(ctx, *shim) == Some(true))?;
    let about = About { pid: Some(shim.tgid), ..About::default() };
    let found = RuleMatch { hop: ctx.hop(Role::Runtime).map(|(at, _)| at), about, ..RuleMatch::default() };
    let exe = ctx.process(shim)?.last.exe.clone().unwrap_or_default();
    Some(
        found
            .with(number("since the runtime made the FIFOs, with none open in the shim", ctx.age().as_millis(), "ms"))
            .with(word(format!("program of the shim (pid {})", shim.tgid), exe)),
    )
}

#[cfg(test)]
use super::f09_shim_stuck::unstarted;
#[cfg(test)]
use crate::{
    diagnose::fixture::{EXEC, Fixture, SHIM, fifo},
    model::Access,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let kata = "/opt/kata/bin/containerd-shim-kata-v2";
    let mut healthy = unstarted("a process in the guest: this host sees none", &[], kata);
    healthy.each(|sample, _| sample.hold(SHIM, fifo(30, 71, Access::Write, EXEC, "stdout")));
    vec![
        unstarted("Kata's agent hangs", &["F24"], kata),
        unstarted("gVisor's sentry hangs", &["F24"], "/usr/bin/containerd-shim-runsc-v1"),
        healthy,
    ]
}
