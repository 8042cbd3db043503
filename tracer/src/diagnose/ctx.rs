//! One session together with its measurements: the queries that fault rules use.

use super::{
    finding::{RuleMatch, Step, number, word},
    host::{Held, Host},
    kinds::Kinds,
    legs::{End, Leg, Side, retransmits, unread_at},
    samples::both,
};
use crate::model::{
    About, BootTime, Descriptor, ExitStatus, FileKind, FileMeasure, Gap, GapCode, Hop, Kind, LinkKind, ProcessMeasure,
    Reading, Role, Series, Session, SocketId, Span, State, TaskKey, TcpState, ThreadMeasure, Tuple,
};

/// A session under diagnosis.
pub(super) struct SessionCtx<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) session: &'a Session,
}

impl<'a> SessionCtx<'a> {
    pub(super) const fn new(host: &'a Host<'a>, session: &'a Session) -> Self {
        Self { host, session }
    }

    pub(super) fn is_open(&self) -> bool {
        self.session.state == State::Open
    }

    /// Time from open to close, or to the time of the report.
    pub(super) fn age(&self) -> Span {
        self.session.closed_at.unwrap_or(self.host.report.at).since(self.session.opened_at)
    }

    pub(super) fn has_gap(&self, codes: &[GapCode]) -> bool {
        self.session.gaps.iter().any(|Gap { code, .. }| codes.contains(code))
    }

    /// True if the session can have a fault of these kinds. A session of undecided kind can have every fault.
    pub(super) fn is_of(&self, kinds: Kinds) -> bool {
        kinds.has(self.session.kind) || self.has_gap(&[GapCode::KindUnknown])
    }

    /// True if a missing part is truly absent: the session was traced from its start and no record was lost.
    pub(super) fn is_seen_whole(&self) -> bool {
        !self.session.preexisting
            && self.host.report.totals.lost.is_empty()
            && !self.has_gap(&[GapCode::LostEvents, GapCode::Ambiguous, GapCode::Unjoined])
    }

    /// The hop nearest to the process that has this role.
    pub(super) fn hop(&self, role: Role) -> Option<(usize, &'a Hop)> {
        self.session.hops.iter().enumerate().rev().find(|(_, hop)| hop.role == role)
    }

    pub(super) fn last_role(&self) -> Option<Role> {
        self.session.hops.last().map(|hop| hop.role)
    }

    pub(super) fn process(&self, task: TaskKey) -> Option<&'a Series<ProcessMeasure>> {
        self.host.report.measures.process(task)
    }

    /// The requested command while it runs: index of its hop, the hop, its samples.
    pub(super) fn command(&self) -> Option<(usize, &'a Hop, &'a Series<ProcessMeasure>)> {
        let (at, hop) = self.hop(Role::Process).filter(|(_, hop)| hop.exit.is_none())?;
        let series = self.process(hop.task).filter(|series| !matches!(series.last.state, 'Z' | 'X'))?;
        Some((at, hop, series))
    }

    /// True if the session was found without its command, which had ended before the scan: the runtime's pid file names
    /// a pid that no process has.
    pub(super) fn is_command_gone(&self) -> bool {
        let session = self.session;
        let stands = !self.legs().is_empty() && session.exec_id.is_some();
        session.preexisting && stands && self.hop(Role::Process).is_none() && self.has_gap(&[GapCode::ProcessUnknown])
    }

    /// The hop of the command once the command has ended: it has an exit status, or its last sample is a zombie.
    pub(super) fn command_ended(&self) -> Option<(usize, &'a Hop)> {
        let (at, hop) = self.hop(Role::Process)?;
        let is_zombie = || self.process(hop.task).is_some_and(|series| series.last.state == 'Z');
        (hop.exit.is_some() || is_zombie()).then_some((at, hop))
    }

    /// True if a signal stopped that task in two samples.
    pub(super) fn is_stopped(&self, task: TaskKey) -> bool {
        self.host.is_stopped(task)
    }

    fn end(&self, socket: SocketId) -> End<'a> {
        End { socket, series: self.host.report.measures.tcp(socket) }
    }

    /// TCP connections of the session from the client inwards, including those that leave this host.
    pub(super) fn legs(&self) -> Vec<Leg<'a>> {
        let session = self.session;
        let inside = session.links.iter().enumerate().filter_map(|(index, link)| {
            let ends = link.tcp.filter(|_| link.kind == LinkKind::Tcp && !link.persistent)?;
            Some(Leg {
                link: Some(index),
                near_hop: Some(link.from),
                far_hop: Some(link.to),
                tuple: Some(ends.tuple),
                near: ends.near.map(|socket| self.end(socket)),
                far: ends.far.map(|socket| self.end(socket)),
            })
        });
        let beyond =
            |wanted: &str| session.beyond.iter().find(|(side, _)| *side == wanted).map(|(_, address)| *address);
        let relay_of =
            |hop: usize| session.links.iter().find(|link| link.from == hop && link.to == hop).and_then(|one| one.relay);
        let first = beyond("client").and_then(|_| relay_of(0)).map(|(inbound, _)| Leg {
            link: None,
            near_hop: None,
            far_hop: Some(0),
            tuple: self.host.report.measures.tuple(inbound).map(Tuple::mirrored),
            near: None,
            far: Some(self.end(inbound)),
        });
        let last_hop = session.hops.len().saturating_sub(1);
        let last = beyond("node").and_then(|_| relay_of(last_hop)).map(|(_, outbound)| Leg {
            link: None,
            near_hop: Some(last_hop),
            far_hop: None,
            tuple: self.host.report.measures.tuple(outbound),
            near: Some(self.end(outbound)),
            far: None,
        });
        first.into_iter().chain(inside).chain(last).collect()
    }

    /// Outermost ends of the session on this host. The process at the other end is not known.
    pub(super) fn outermost(&self) -> impl Iterator<Item = Side<'a>> + '_ {
        let own = self.host.report.unattributed.iter().filter(|one| one.session.as_ref() == Some(&self.session.id));
        own.map(|one| Side {
            link: None,
            hop: self.session.hops.iter().position(|hop| hop.task == one.task),
            other_hop: None,
            end: Some(self.end(one.socket.id)),
            other: None,
            tuple: one.socket.tuple,
        })
    }

    /// A match at that end, with its addresses and the time since it holds.
    pub(super) fn found_at(&self, side: &Side<'_>) -> RuleMatch {
        let about = About {
            pid: side.hop.and_then(|at| self.session.hops.get(at)).map(|hop| hop.task.tgid),
            inode: side.end.and_then(|end| end.socket.inode),
            local: side.tuple.map(|tuple| tuple.local),
            remote: side.tuple.map(|tuple| tuple.remote),
            fd: None,
        };
        RuleMatch {
            hop: side.hop,
            link: side.link,
            about,
            since: Self::at_least_since(side.end.or(side.other)),
            ..RuleMatch::default()
        }
    }

    /// Role and pid of a hop for evidence texts; an unknown hop is on the other host.
    pub(super) fn called(&self, hop: Option<usize>) -> String {
        match hop.and_then(|at| self.session.hops.get(at)) {
            Some(hop) => format!("{} (pid {})", hop.role.token(), hop.task.tgid),
            None => "the other host".to_owned(),
        }
    }

    /// Children of runc that have not become the command yet: `runc:[2:INIT]`.
    pub(super) fn beginnings(&self) -> Vec<(TaskKey, &'a Series<ProcessMeasure>)> {
        let Some((_, runc)) = self.hop(Role::Runc).filter(|_| self.last_role() == Some(Role::Runc)) else {
            return Vec::new();
        };
        let is_child = |series: &Series<ProcessMeasure>| series.last.parent == Some(runc.task.tgid);
        self.host.report.measures.processes().filter(|(_, series)| is_child(series)).collect()
    }

    /// The command and the children of runc that will become it.
    pub(super) fn inside(&self) -> Vec<(TaskKey, &'a Series<ProcessMeasure>)> {
        let command = self.command().map(|(_, hop, series)| (hop.task, series));
        command.into_iter().chain(self.beginnings()).collect()
    }

    /// The shim of the session's container: a hop of the path, or the only shim that holds FIFOs of the container.
    pub(super) fn shim(&self) -> Option<TaskKey> {
        let hop = self.hop(Role::Shim).map(|(_, hop)| hop.task);
        hop.or_else(|| {
            let shims = self.host.shims_of(self.session.target.container_id.as_deref()?);
            shims.first().copied().filter(|_| shims.len() == 1)
        })
    }

    /// The innermost leg that ends at a hop with this role.
    pub(super) fn leg_to(&self, role: Role) -> Option<Leg<'a>> {
        let is =
            |leg: &Leg<'_>| leg.far_hop.and_then(|at| self.session.hops.get(at)).is_some_and(|hop| hop.role == role);
        self.legs().into_iter().rev().find(is)
    }

    /// Bytes that the near end of a leg sent and received. A closed leg keeps its totals, an open one has its last
    /// sample.
    pub(super) fn bytes(&self, leg: &Leg<'_>) -> Option<(u64, u64)> {
        let closed = leg.link.and_then(|at| self.session.links[at].tcp).and_then(|ends| ends.sent.zip(ends.received));
        closed.or_else(|| {
            let info = leg.near?.series?.last.info?;
            Some((info.bytes_acked, info.bytes_received))
        })
    }

    /// True if this stream may serve an exec that is reported as a session of its own. What this session lacks may then
    /// be found there.
    pub(super) fn may_be_in_two(&self) -> bool {
        let overlaps = |other: &&Session| {
            let end = |one: &Session| one.closed_at.unwrap_or(self.host.report.at).plus(Span::from_secs(1));
            other.id != self.session.id
                && other.opened_at <= end(self.session)
                && self.session.opened_at <= end(other)
                && !other.links.iter().any(|link| link.kind == LinkKind::Tcp)
        };
        self.host.report.sessions.iter().any(|other| overlaps(&other))
    }

    /// FIFOs of this session's exec that processes have open, with their holders.
    pub(super) fn fifos(&self) -> &'a [Held<'a>] {
        self.host.fifos_of(self.session)
    }

    /// Pipes of a foreground runc that carry output to the runtime, with the name of the stream. Empty where a shim
    /// copies the output.
    pub(super) fn runc_outputs(&self) -> Vec<(TaskKey, &'a Descriptor, &'static str)> {
        let Some(runc) = self.foreground_runc() else { return Vec::new() };
        let own = self.host.report.measures.descriptors(runc).iter();
        own.filter(|one| one.kind == FileKind::Pipe)
            .filter_map(|one| match one.fd {
                1 => Some((runc, one, "stdout")),
                2 => Some((runc, one, "stderr")),
                _ => None,
            })
            .collect()
    }

    /// The `runc exec` that lives as long as the command, as a child of the runtime (CRI-O).
    pub(super) fn foreground_runc(&self) -> Option<TaskKey> {
        let (at, runc) = self.hop(Role::Runc).filter(|(_, hop)| hop.exit.is_none())?;
        let above = at.checked_sub(1).and_then(|above| self.session.hops.get(above))?;
        let runs = self.hop(Role::Process).is_some();
        (above.role == Role::Runtime && runs).then_some(runc.task)
    }

    /// A descriptor of the command, if it is a pipe, FIFO, terminal or socket.
    pub(super) fn descriptor(&self, fd: u32) -> Option<&'a Descriptor> {
        let (_, hop) = self.hop(Role::Process)?;
        let own = self.host.report.measures.descriptors(hop.task);
        own.iter().find(|one| one.fd == fd && one.kind != FileKind::Other)
    }

    pub(super) fn file(&self, one: &Descriptor) -> Option<&'a Series<FileMeasure>> {
        self.host.report.measures.file(one.kind, one.file)
    }

    /// Measured processes that may read the command's stdin: the command itself and every other holder. On a terminal
    /// only those of its foreground group.
    pub(super) fn readers(&self) -> Vec<(TaskKey, &'a Series<ProcessMeasure>)> {
        let Some((_, hop, series)) = self.command() else { return Vec::new() };
        let Some(stdin) = self.descriptor(0) else { return vec![(hop.task, series)] };
        let shims = |task| self.host.is(task, Role::Shim);
        let mut tasks: Vec<TaskKey> = self
            .host
            .holders(stdin.kind, stdin.file)
            .iter()
            .filter(|(task, one)| one.access.reads() && !one.master && !shims(*task))
            .map(|(task, _)| *task)
            .collect();
        tasks.push(hop.task);
        tasks.sort_unstable();
        tasks.dedup();
        let measured = tasks.into_iter().filter_map(|task| Some((task, self.process(task)?)));
        // Processes in the background do not read from their terminal.
        measured.filter(|(_, one)| stdin.kind != FileKind::Pty || one.last.group == series.last.foreground).collect()
    }

    /// The reader that sleeps in read(2) on stdin in the last sample.
    pub(super) fn reads_stdin(&self) -> Option<(TaskKey, &'a ThreadMeasure)> {
        let stdin = self.descriptor(0)?;
        self.readers().into_iter().find_map(|(task, series)| {
            let own = self.host.report.measures.descriptors(task);
            let is_stdin =
                |fd: u32| own.iter().any(|one| one.fd == fd && one.kind == stdin.kind && one.file == stdin.file);
            let reads = |thread: &&ThreadMeasure| {
                thread
                    .call
                    .as_ref()
                    .is_some_and(|call| matches!(call.name.as_str(), "read" | "readv") && call.fd.is_some_and(is_stdin))
            };
            series.last.threads.iter().find(reads).map(|thread| (task, thread))
        })
    }

    /// True if the session needs this daemon: a hop of the path, the shim of the container, or the runtime that its
    /// kubelet asks.
    pub(super) fn hangs_on(&self, daemon: TaskKey) -> bool {
        self.session.hops.iter().any(|hop| hop.task == daemon) || self.shim() == Some(daemon) || self.waits_for(daemon)
    }

    /// True if the path ends at a kubelet that must ask this runtime before anything can start.
    fn waits_for(&self, runtime: TaskKey) -> bool {
        let asks = matches!(self.session.kind, Kind::Exec | Kind::Cp | Kind::Attach | Kind::Debug | Kind::PortForward);
        let last = self.session.hops.last().filter(|hop| asks && hop.role == Role::Kubelet);
        let mut standing = self.host.report.daemon_connections.iter();
        last.is_some_and(|kubelet| standing.any(|one| one.near.0 == kubelet.task && one.far.0 == runtime))
    }

    /// The hop at which a fault of this daemon is shown: the daemon's own, else the last hop reached.
    pub(super) fn place_of(&self, daemon: TaskKey) -> Option<usize> {
        let hops = &self.session.hops;
        hops.iter().rposition(|hop| hop.task == daemon).or_else(|| hops.len().checked_sub(1))
    }

    /// Results of the checks that precede `until`, as readings for the evidence.
    pub(super) fn trail(&self, until: Step) -> Vec<Reading> {
        let legs = self.legs();
        let mut steps = Vec::new();
        let ends = || legs.iter().flat_map(|leg| [leg.near, leg.far]).flatten().filter_map(|end| end.series);
        if until > Step::Legs && ends().next().is_some() {
            let standing = ends().filter(|series| series.last.state == TcpState::Established).count();
            steps.push(number("established ends of TCP legs", standing as u64, ""));
        }
        if let (Some((_, hop, series)), true) = (self.command(), until > Step::Process) {
            let state = series.last.state.to_string();
            steps.push(word(format!("state of the process (pid {})", hop.task.tgid), state.as_str()));
        }
        if until > Step::Silence && ends().next().is_some() {
            let silent = ends().filter(|series| retransmits(&series.last)).count();
            steps.push(number("ends with unanswered retransmissions", silent as u64, ""));
        }
        if until > Step::Queues && ends().any(|series| both(series).is_some()) {
            let unread = legs.iter().filter(|leg| unread_at(leg.near).is_some()).count();
            steps.push(number("legs with unread output", unread as u64, ""));
        }
        steps
    }

    /// Time of the sample before the last one at that end.
    pub(super) fn at_least_since(end: Option<End<'_>>) -> Option<BootTime> {
        end?.series?.before.as_ref().map(|(at, _)| *at)
    }

    /// Exit status of the client, if the tracer recorded it.
    pub(super) fn client_exit(&self) -> Option<ExitStatus> {
        self.session.hops.first().filter(|hop| hop.role == Role::Client)?.exit
    }
}
