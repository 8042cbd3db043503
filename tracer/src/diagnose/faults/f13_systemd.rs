//! F13: runc waits for systemd.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F13",
    name: "runc waits for systemd",
    short: "systemd silent",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Command,
    means: "runc was started and asks systemd over D-Bus to move the command into the container's cgroup, but gets no \
            answer. Until systemd answers, no container of this node starts or stops.",
    why: "systemd or dbus-daemon hangs, is re-executing or has too many connections. runc's systemd cgroup driver \
          depends on both.",
    needs: "Two samples of the sockets that `runc exec` holds, with the path of each listener.",
    apart: &[
        Apart {
            code: "F10",
            by: "runc still holds its D-Bus connection, which it closes before the command is in its cgroup",
        },
        Apart { code: "F14", by: "runc waits for an answer, not for room in a pipe" },
        Apart { code: "F09", by: "the shim has started runc" },
    ],
    next: &[
        "Check that systemd answers (below). If it does not, run systemctl daemon-reexec or restart dbus.",
        "As a last resort, drain and reboot the node.",
    ],
    manual: &[
        "ls -l /proc/{pid}/fd | grep socket; ss -xp | grep pid={pid},",
        "timeout 5 busctl --system call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.DBus.Peer Ping",
        "timeout 5 systemctl is-system-running",
    ],
    sources: &["opencontainers/runc#1959", "opencontainers/runc#3464", "opencontainers/runc#4853"],
    made: Made::Scenario("runc 1.1 does not ask systemd before an exec, and there is no systemd in the lab"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// systemd answers in milliseconds, on a busy node within a second or two.
const LONG: Span = Span::from_secs(10);
/// Sockets of systemd and D-Bus, without the `/var` that some write before `/run`.
const LISTENERS: [&str; 2] = ["/run/dbus/system_bus_socket", "/run/systemd/private"];

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, runc) = ctx.hop(Role::Runc).filter(|(_, hop)| hop.exit.is_none())?;
    if !ctx.is_open() || ctx.age() < LONG || ctx.last_role() != Some(Role::Runc) {
        return None;
    }
    let (inode, path) = ctx.host.report.measures.unixes_of(runc.task).find_map(|(inode, path, series)| {
        let path = path?;
        let text = path.to_text();
        let listens = LISTENERS.contains(&text.strip_prefix("/var").unwrap_or(&text));
        both(series).filter(|_| listens).map(|_| (inode, path.clone()))
    })?;
    let about = About { pid: Some(runc.task.tgid), inode: Some(inode), ..About::default() };
    Some(
        RuleMatch { hop: Some(at), about, ..RuleMatch::default() }
            .with(number("since the session began, with runc still running", ctx.age().as_millis(), "ms"))
            .with(word("runc is connected to", path)),
    )
}

#[cfg(test)]
use super::f10_frozen::beginning;
#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, RUNC, pipe},
    model::{Descriptor, UnixMeasure},
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], path: &str| {
        let mut fixture = beginning(about, named);
        fixture.each(|sample, _| {
            sample.hold(RUNC, Descriptor { kind: FileKind::Socket, ..pipe(7, 92, true) });
            sample.unix.insert(92, (path.into(), UnixMeasure { recv_q: 0, send_q: 0 }));
        });
        fixture
    };
    let mut early = of("systemd was asked a moment ago", &[], "/run/systemd/private");
    early.session(|session| session.opened_at = session.opened_at.plus(Span::from_secs(58)));
    vec![
        of("systemd does not answer", &["F13"], "/var/run/dbus/system_bus_socket"),
        of("the terminal's socket", &[], "/tmp/pty123/pty.sock"),
        early,
    ]
}
