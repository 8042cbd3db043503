//! What this host allows: the plan of probes, and every degradation that shows once they are attached.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd,
};

use aya::maps::{MapData, RingBuf};
use tracer_common::Counter;

use crate::{
    decode::decode,
    host_paths,
    model::{Degraded, Fact, HostFacts, WatchAs},
    plan::{ProbePlan, ProbeSpec, Road, plan},
    probe_host,
    source::{
        ebpf::{
            btf::KernelBtf,
            loader::{self, Probes},
        },
        snapshot,
    },
};

/// Code of the degradation for fields of the kernel that the probes could not read.
const READS_FAILED: &str = "reads-failed";

/// Code of the degradation for a relay that the probes did not match.
const RELAY_FAILED: &str = "relay-failed";

/// Collects facts about the host, plans the probes, attaches each one for a moment, and relays bytes through this process to see whether
/// its connections are matched. Used by `doctor`. `road`: the only road to try.
#[must_use]
pub fn examine(road: Option<Road>) -> (HostFacts, ProbePlan, Vec<Degraded>) {
    let btf = KernelBtf::load();
    let host = HostFacts { reach: Some(snapshot::reach()), ..probe_host::probe(btf.as_ref().ok()) };
    let (mut plan, mut degraded) = plan(&host);
    if let (Ok(btf), false) = (btf, degraded.iter().any(|degraded| degraded.fatal)) {
        match loader::attach(&plan, &btf.layout(), &loader::Options { road, ..loader::Options::default() }) {
            Ok((mut probes, mut ring)) => {
                let relayed = relay(&mut probes, &mut ring);
                degraded.extend(after_attach(&mut plan, &probes));
                match relayed {
                    Ok(is_matched) => {
                        plan.relay_matched = Some(is_matched);
                        degraded.extend(plan.road.filter(|_| !is_matched).map(relay_failed));
                    }
                    Err(error) => tracing::debug!(%error, "the probes are not exercised"),
                }
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

/// Enters the road in use into the plan. Returns the degradations that show only once the probes are attached: no road, refused probes
/// and failed reads.
pub(super) fn after_attach(plan: &mut ProbePlan, probes: &Probes) -> Vec<Degraded> {
    let mut degraded: Vec<Degraded> = plan.choose(probes.road, probes.refused.clone()).into_iter().collect();
    for (road, reason) in &plan.refused {
        tracing::info!(road = road.token(), reason, "road not taken");
    }
    tracing::info!(road = probes.road.map_or("none", Road::token), "sends and receives are seen");
    degraded.extend(refused(&probes.failed));
    degraded.extend(failed_reads(probes.count(Counter::ReadFailed)));
    degraded
}

/// Relays a byte in both directions between two connections on loopback. Returns true if the probes matched both connections in both
/// directions, and reported no other pair. The probes of processes and sockets run on the way: each reads fields of kernel structures
/// before it decides whether the process is on the path.
fn relay(probes: &mut Probes, ring: &mut RingBuf<MapData>) -> io::Result<bool> {
    let own = host_paths::own_pid().on_host;
    // Without the mount namespace, forks of this process are not followed, and it makes none.
    probes.watch(own, 0, WatchAs::Endpoint).map_err(io::Error::other)?;
    let [mut client, mut inbound] = connection()?;
    let [mut outbound, mut server] = connection()?;
    let mut byte = [0];
    client.write_all(&byte)?;
    inbound.read_exact(&mut byte)?;
    outbound.write_all(&byte)?;
    server.read_exact(&mut byte)?;
    server.write_all(&byte)?;
    outbound.read_exact(&mut byte)?;
    inbound.write_all(&byte)?;
    client.read_exact(&mut byte)?;
    // Records are in the buffer once the calls have returned.
    let mut pairs = BTreeSet::new();
    while let Some(record) = ring.next() {
        if let Ok(seen) = decode(&record)
            && let Fact::Relayed { from, to, .. } = seen.fact
            && seen.task.is_some_and(|task| task.tgid == own)
        {
            pairs.insert((from.id.inode, to.id.inode));
        }
    }
    let inode = |socket: &TcpStream| rustix::fs::fstat(socket.as_fd()).map(|stat| Some(stat.st_ino));
    let (near, far) = (inode(&inbound)?, inode(&outbound)?);
    Ok(pairs == BTreeSet::from([(near, far), (far, near)]))
}

/// Both ends of a connection on loopback: the connecting end first.
fn connection() -> io::Result<[TcpStream; 2]> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _address) = listener.accept()?;
    Ok([near, far])
}

/// The relay through this process was not matched.
fn relay_failed(road: Road) -> Degraded {
    Degraded {
        code: RELAY_FAILED.to_owned(),
        text: format!(
            "the probes attached by the road {}, but did not match two connections that this process relayed: connections of a proxy may \
             stay apart",
            road.token()
        ),
        hint: "report this with the kernel's version and the output of `execpath doctor -o json`".to_owned(),
        fatal: false,
    }
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
    fn unmatched_relay_is_a_degradation() {
        let degraded = relay_failed(Road::Fexit);
        assert!(degraded.text.contains("road fexit") && !degraded.fatal, "{}", degraded.text);
        assert_eq!(connection().unwrap().map(|end| end.nodelay().is_ok()), [true, true]);
    }
}
