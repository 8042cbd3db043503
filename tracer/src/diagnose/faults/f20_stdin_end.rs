//! F20: end of input was not passed on.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F20",
    name: "end of input was not passed on",
    short: "no EOF",
    severity: Severity::Fault,
    step: Step::Doing,
    kinds: Kinds::Command,
    means: "kubectl's input has ended, but the command still waits for more: `cat`, `sh`, `tar` or `psql` never \
            receive end of file and never return.",
    why: "The protocol version has no message for it (WebSocket up to v4), a client library does not send it, or the \
          runtime keeps the other end of the FIFO open.",
    needs: "Two samples of the command's system call and pipe, and a kubectl on this host whose input certainly ends: \
            /dev/null or a file. The end of a pipe into kubectl cannot be observed, so this fault is not reported \
            there.",
    apart: &[
        Apart { code: "F23", by: "no more input can come: the client's input is at its end" },
        Apart { code: "F16", by: "all input has arrived: no queue holds a byte" },
    ],
    next: &[
        "End kubectl to end the session. A command that knows the end of its input (head -c, a here-document read by \
         sh -c) avoids the problem.",
        "Upgrade to a kubectl and API servers that speak WebSocket with v5.channel.k8s.io: these pass the end of input \
         on (KEP-4006).",
    ],
    manual: &[
        "cat /proc/{pid}/syscall; ls -l /proc/{pid}/fd/0   # reads its pipe",
        "ls -l /proc/{kubectl}/fd/0   # the client's input",
        "ls -l /proc/{shim}/fd | grep pipe:   # the other end, still open",
    ],
    sources: &[
        "kubernetes/kubernetes#89899",
        "kubernetes/kubernetes#13394",
        "containerd/containerd#2439",
        "cri-o/cri-o#3175",
        "kubernetes-client/csharp#1723",
    ],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// kubectl reads a file as fast as the network takes it, and a small one at once.
const LONG: Span = Span::from_secs(5);

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    if !ctx.is_open() || ctx.session.stdin != Some(true) || ctx.age() < LONG {
        return None;
    }
    let (task, thread) = ctx.reads_stdin()?;
    let stdin = ctx.descriptor(0).filter(|one| one.kind == FileKind::Pipe)?;
    let is_empty = ctx.file(stdin).is_some_and(|file| twice(file, |file| file.queued == 0));
    let shim = ctx.shim()?;
    let held = ctx.host.holders(stdin.kind, stdin.file);
    let held = held.iter().any(|(holder, one)| *holder == shim && one.access.writes());
    let (_, client) = ctx.hop(Role::Client)?;
    let input = ctx.host.report.measures.descriptors(client.task).iter().find(|one| one.fd == 0)?;
    let path = input.path.as_ref().filter(|path| input.kind == FileKind::Other && ends(path))?;
    let arrived = has_arrived(ctx);
    if !is_empty || !held || !arrived {
        return None;
    }
    let fd = thread.call.as_ref().and_then(|call| call.fd);
    let about = About { pid: Some(task.tgid), fd, inode: Some(stdin.file.inode), ..About::default() };
    let hop = ctx.hop(Role::Process).map(|(at, _)| at);
    Some(
        RuleMatch { hop, about, ..RuleMatch::default() }
            .with(word(format!("input of {}", ctx.called(Some(0))), path.clone()))
            .with(word(format!("call of pid {}", task.tgid), "read"))
            .with(number("bytes in its pipe", 0, "bytes"))
            .with(word("other end of that pipe", format!("still open in the shim (pid {})", shim.tgid).as_str())),
    )
}

/// True if the input has an end: a regular file, or the empty device.
fn ends(path: &RawText) -> bool {
    let path = path.as_bytes();
    path == b"/dev/null" || (path.starts_with(b"/") && !path.starts_with(b"/dev/") && !path.starts_with(b"/proc/"))
}

/// True if no input is on its way: all queues are empty, and only pings left the client between the samples.
fn has_arrived(ctx: &SessionCtx<'_>) -> bool {
    // A ping of kubectl's has tens of bytes, and comes every 5 s.
    const PINGS: u64 = 1_000;
    ctx.legs().iter().all(|leg| {
        let idle = |end: Option<End<'_>>| {
            end.and_then(|end| both(end.series?)).is_some_and(|(last, before)| {
                let moved = last.info.zip(before.info).map(|(now, then)| {
                    now.bytes_acked.saturating_sub(then.bytes_acked)
                        + now.bytes_received.saturating_sub(then.bytes_received)
                });
                last.send_q == 0 && last.recv_q == 0 && moved.is_some_and(|moved| moved < PINGS)
            })
        };
        idle(leg.near) && idle(leg.far)
    })
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, KUBECTL, On, PROCESS, info, pipe},
    model::Descriptor,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], path: &str| {
        let mut fixture = Fixture::new(about, named);
        fixture.waits(PROCESS, "read", Some(0));
        fixture.each(|sample, _| {
            let input = Descriptor { kind: FileKind::Other, path: Some(path.into()), ..pipe(0, 50, true) };
            sample.descriptors.insert(KUBECTL, vec![input]);
        });
        fixture
    };
    let mut moving = of("a file is being sent", &["F23"], "/root/dump.sql");
    moving.far(On::Client, |tcp, number| info(tcp).bytes_received += 5_000_000 * number);
    let mut sleeps = of("the command does not ask for input", &[], "/dev/null");
    sleeps.waits(PROCESS, "clock_nanosleep", None);
    vec![
        of("kubectl exec -i … cat </dev/null", &["F20"], "/dev/null"),
        of("a file was sent whole", &["F20"], "/root/dump.sql"),
        of("a device that has no end", &["F23"], "/dev/urandom"),
        moving,
        sleeps,
    ]
}
