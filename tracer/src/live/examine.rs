//! What this host allows: the plan of probes, and every degradation that shows once they are attached.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use tracer_common::Counter;

use crate::{
    model::{Degraded, HostFacts},
    plan::{ProbePlan, ProbeSpec, plan},
    probe_host,
    source::ebpf::{
        btf::KernelBtf,
        loader::{self, Probes},
    },
};

/// Code of the degradation for fields of the kernel that the probes could not read.
const READS_FAILED: &str = "reads-failed";

/// Collects facts about the host, plans the probes, and attaches each one for a moment. Used by `doctor`.
#[must_use]
pub fn examine() -> (HostFacts, ProbePlan, Vec<Degraded>) {
    let btf = KernelBtf::load();
    let host = probe_host::probe(btf.as_ref().ok());
    let (plan, mut degraded) = plan(&host);
    if let (Ok(btf), false) = (btf, degraded.iter().any(|degraded| degraded.fatal)) {
        match loader::attach(&plan, btf.offsets(), &loader::Options::default()) {
            Ok((probes, _ring)) => {
                if let Err(error) = exercise() {
                    tracing::debug!(%error, "the probes are not exercised");
                }
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

/// Degradations that show only once the probes are attached: refused probes and failed reads.
pub(super) fn after_attach(probes: &Probes) -> Vec<Degraded> {
    let mut degraded = refused(&probes.failed);
    degraded.extend(failed_reads(probes.count(Counter::ReadFailed)));
    degraded
}

/// Makes a connection on loopback, so that probes of processes and sockets run at least once. Each probe reads fields of kernel
/// structures before it decides whether the process is on the path.
fn exercise() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _address) = listener.accept()?;
    drop((client, server));
    Ok(())
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

/// Fields of kernel structures that probes could not read. A probe reads structures of running tasks and open sockets, so a
/// failed read means that a located field does not fit the running kernel: one is enough to report.
fn failed_reads(count: u64) -> Option<Degraded> {
    (count > 0).then(|| Degraded {
        code: READS_FAILED.to_owned(),
        text: format!(
            "{count} {} of kernel memory failed: processes or connections may be missing",
            if count == 1 { "read" } else { "reads" }
        ),
        hint: "report this with the kernel's version: its structures differ from what its BTF describes".to_owned(),
        fatal: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PROBES;

    #[test]
    fn failed_reads_are_a_degradation() {
        assert_eq!(failed_reads(0), None);
        let degraded = failed_reads(7).unwrap();
        assert_eq!((degraded.code.as_str(), degraded.fatal), (READS_FAILED, false));
        assert!(degraded.text.starts_with("7 reads of kernel memory failed"), "{}", degraded.text);
        assert!(failed_reads(1).unwrap().text.starts_with("1 read of"));
    }

    #[test]
    fn refused_probe_is_named_with_its_reason() {
        let spec = PROBES.iter().find(|spec| !spec.required).unwrap();
        let degraded = refused(&[(spec, "no such call\nlog of the verifier".to_owned())]);
        assert_eq!(degraded[0].text, format!("the probe {} could not be attached (no such call)", spec.program));
        assert!(!degraded[0].fatal);
    }

    #[test]
    fn loopback_connection_exercises_the_probes() {
        exercise().unwrap();
    }
}
