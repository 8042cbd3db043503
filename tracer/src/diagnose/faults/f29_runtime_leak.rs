//! F29: the runtime leaks FIFOs of ended execs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F29",
    name: "the runtime leaks FIFOs of ended execs",
    short: "runtime leak",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Any,
    means: "The runtime still has FIFOs of ended execs open, each with goroutines and memory. Usage grows with every \
            session until the runtime is restarted or killed.",
    why: "A goroutine of the runtime waits forever: for a stream that was closed in an unusual way, or after a failed \
          start.",
    needs: "Two samples of the runtime's FIFOs, and the descriptors of the containers' shims. Leaks of memory alone \
            are not visible: compare the runtime's resident memory over days.",
    apart: &[
        Apart { code: "F28", by: "the leftovers are FIFOs of a runtime" },
        Apart { code: "F26", by: "no shim has them open, so no process is left" },
        Apart { code: "F15", by: "descriptors are available" },
    ],
    next: &[
        "Update the runtime: leaks of this kind have been fixed one by one, see the sources.",
        "Restart containerd to free them. Containers keep running, and running execs lose their output.",
    ],
    manual: &[
        "ls -l /proc/{pid}/fd | grep -c -e -stdin -e -stdout -e -stderr   # over time, with no exec running",
        "grep -e VmRSS -e Threads /proc/{pid}/status",
        "kill -USR1 {pid}   # containerd: stacks of its goroutines, to its log",
    ],
    sources: &[
        "containerd/containerd#10568",
        "kubernetes/kubernetes#126608",
        "CVE-2025-64329",
        "CVE-2022-23471",
        "moby/spdystream#92",
        "kubernetes/kubernetes#105830",
    ],
    made: Made::Processes,
    rule: Rule::Host(rule),
    #[cfg(test)]
    fixtures,
};

/// One or two may be about to be closed.
const MANY: usize = 3;

fn rule(host: &Host<'_>) -> Vec<RuleMatch> {
    let name = |session: &crate::model::Session| session.exec_id.clone().zip(session.target.container_id.clone());
    let open: BTreeSet<(Arc<str>, String)> = host.open().filter_map(name).collect();
    let mut leaked: BTreeMap<TaskKey, Vec<(u32, u64)>> = BTreeMap::new();
    for (exec, held) in host.fifos() {
        let Some(one) =
            held.first().filter(|one| one.container != exec && !open.contains(&(exec.into(), one.container.clone())))
        else {
            continue;
        };
        let by_runtime = held.iter().all(|held| held.task == one.task) && host.is(one.task, Role::Runtime);
        // Only if the shim of that container was measured.
        let shim_known = !host.shims_of(&one.container).is_empty();
        let stands =
            host.report.measures.file(one.descriptor.kind, one.descriptor.file).is_some_and(|it| both(it).is_some());
        if by_runtime && shim_known && stands {
            leaked.entry(one.task).or_default().push((one.descriptor.fd, one.descriptor.file.inode));
        }
    }
    let found = leaked.into_iter().filter(|(_, execs)| execs.len() >= MANY).map(|(task, execs)| {
        let (fd, inode) = execs.first().copied().unzip();
        let about = About { pid: Some(task.tgid), fd, inode, ..About::default() };
        let mut found = RuleMatch { about, task: Some(task), ..RuleMatch::default() };
        found = found.with(number("ended execs with open FIFOs", execs.len() as u64, ""));
        if let Some(series) = host.report.measures.process(task) {
            found = found.with(number("threads of the runtime", series.last.thread_count.into(), ""));
            if let Some(resident) = series.last.resident {
                found = found.with(number("its resident memory", resident, "bytes"));
            }
        }
        found
    });
    found.collect()
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, RUNTIME, SHIM, fifo, room},
    model::Access,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], execs: u64, by_shim: bool| {
        let mut fixture = Fixture::new(about, named);
        fixture.each(|sample, _| {
            for number in 0..execs {
                let (fd, inode) = (100 + u32::try_from(number).unwrap(), 300 + number);
                let exec = format!("{number:064x}");
                sample.hold(RUNTIME, fifo(fd, inode, Access::Read, &exec, "stdout"));
                if by_shim {
                    sample.hold(SHIM, fifo(fd, inode, Access::Write, &exec, "stdout"));
                }
                sample.files.insert((FileKind::Fifo, inode), room());
            }
        });
        fixture
    };
    let mut new = of("execs that are just starting", &[], 5, false);
    new.samples[0].files.retain(|(_, inode), _| *inode < 300);
    vec![
        of("FIFOs of five execs that are over", &["F29"], 5, false),
        of("two that are being closed", &[], 2, false),
        of("execs that run: their shim has them", &[], 5, true),
        new,
    ]
}
