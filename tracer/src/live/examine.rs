//! What this host allows: the plan of probes, and every degradation that shows once they are attached.

use crate::{
    model::{Degraded, HostFacts},
    plan::{ProbePlan, ProbeSpec, plan},
    probe_host,
    source::ebpf::{
        btf::KernelBtf,
        loader::{self, Probes},
    },
};

/// Collects facts about the host, plans the probes, and attaches each one for a moment. Used by `doctor`.
#[must_use]
pub fn examine() -> (HostFacts, ProbePlan, Vec<Degraded>) {
    let btf = KernelBtf::load();
    let host = probe_host::probe(btf.as_ref().ok());
    let (plan, mut degraded) = plan(&host);
    if let (Ok(btf), false) = (btf, degraded.iter().any(|degraded| degraded.fatal)) {
        match loader::attach(&plan, btf.offsets(), &loader::Options::default()) {
            Ok((probes, _ring)) => {
                degraded.extend(after_attach(&probes));
            }
            Err(error) => degraded.push(Degraded {
                code: "refused".to_owned(),
                text: error.to_string().lines().next().unwrap_or_default().to_owned(),
                hint: "`execpath -v trace` shows the kernel's message".to_owned(),
                fatal: true,
            }),
        }
    }
    (host, plan, degraded)
}

/// Degradations that show only once the probes are attached: refused probes.
pub(super) fn after_attach(probes: &Probes) -> Vec<Degraded> {
    refused(&probes.failed)
}

/// Planned probes that the kernel refused and that a trace can do without.
fn refused(failed: &[(&'static ProbeSpec, String)]) -> Vec<Degraded> {
    let degraded = |(probe, reason): &(&ProbeSpec, String)| Degraded {
        code: "probe-failed".to_owned(),
        text: format!(
            "the probe {} could not be attached ({})",
            probe.program,
            reason.lines().next().unwrap_or_default()
        ),
        hint: format!("without it, execpath cannot {}", probe.ability.prose()),
        fatal: false,
    };
    failed.iter().map(degraded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PROBES;

    #[test]
    fn a_refused_probe_is_named_with_the_first_line_of_its_reason() {
        let spec = PROBES.iter().find(|spec| !spec.required).unwrap();
        let degraded = refused(&[(spec, "no such call\nlog of the verifier".to_owned())]);
        assert_eq!(degraded[0].text, format!("the probe {} could not be attached (no such call)", spec.program));
        assert!(!degraded[0].fatal);
    }
}
