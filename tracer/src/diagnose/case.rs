//! A session with what was measured of it: the questions that rules ask.

use super::{
    APART,
    fault::{Found, Step, number, word},
    host::{Held, Host},
    queues,
};
use crate::model::{
    About, BootTime, Descriptor, ExitStatus, FileKind, FileMeasure, Gap, GapCode, Hop, Kind, LinkKind, ProcessMeasure,
    Reading, Role, Series, Session, SocketId, Span, State, TaskKey, TcpMeasure, TcpState, ThreadMeasure, TimerKind,
    Tuple,
};

/// A session.
pub(super) struct Case<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) session: &'a Session,
}

/// One end of a TCP connection.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) socket: SocketId,
    pub(super) series: Option<&'a Series<TcpMeasure>>,
}

/// A TCP connection of the session alone. `near` is nearer to the client.
#[derive(Clone, Copy)]
pub(super) struct Leg<'a> {
    /// Its link; `None` where it leaves this host.
    pub(super) link: Option<usize>,
    pub(super) near_hop: Option<usize>,
    pub(super) far_hop: Option<usize>,
    /// Seen from the near end.
    pub(super) tuple: Option<Tuple>,
    pub(super) near: Option<End<'a>>,
    pub(super) far: Option<End<'a>>,
}

/// Two samples that are far enough apart: the last one, and the one before.
pub(super) fn both<T>(series: &Series<T>) -> Option<(&T, &T)> {
    series.earlier().filter(|(_, span)| *span >= APART).map(|(before, _)| (&series.last, before))
}

/// A leg seen from one of its ends.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) link: Option<usize>,
    pub(super) hop: Option<usize>,
    pub(super) other_hop: Option<usize>,
    pub(super) end: Option<End<'a>>,
    pub(super) other: Option<End<'a>>,
    pub(super) tuple: Option<Tuple>,
}

impl<'a> Leg<'a> {
    /// Seen from the client's side.
    pub(super) fn near_side(&self) -> Side<'a> {
        let Self { link, near_hop, far_hop, tuple, near, far } = *self;
        Side { link, hop: near_hop, other_hop: far_hop, end: near, other: far, tuple }
    }

    /// Seen from the process's side.
    pub(super) fn far_side(&self) -> Side<'a> {
        let Self { link, near_hop, far_hop, tuple, near, far } = *self;
        Side { link, hop: far_hop, other_hop: near_hop, end: far, other: near, tuple: tuple.map(Tuple::mirrored) }
    }

    /// Seen from both ends, the client's first.
    pub(super) fn sides(self) -> [Side<'a>; 2] {
        [self.near_side(), self.far_side()]
    }
}

/// Whether it was so in two samples that are far enough apart.
pub(super) fn twice<T>(series: &Series<T>, is: impl Fn(&T) -> bool) -> bool {
    both(series).is_some_and(|(last, before)| is(last) && is(before))
}

impl<'a> Case<'a> {
    pub(super) const fn new(host: &'a Host<'a>, session: &'a Session) -> Self {
        Self { host, session }
    }

    pub(super) fn is_open(&self) -> bool {
        self.session.state == State::Open
    }

    /// How long it lasted, or has lasted.
    pub(super) fn age(&self) -> Span {
        self.session.closed_at.unwrap_or(self.host.report.at).since(self.session.opened_at)
    }

    pub(super) fn has_gap(&self, codes: &[GapCode]) -> bool {
        self.session.gaps.iter().any(|Gap { code, .. }| codes.contains(code))
    }

    /// Whether what it lacks is not there: it was seen from its start and nothing was lost.
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

    /// What was asked for, while it runs.
    pub(super) fn command(&self) -> Option<(usize, &'a Hop, &'a Series<ProcessMeasure>)> {
        let (at, hop) = self.hop(Role::Process).filter(|(_, hop)| hop.exit.is_none())?;
        let series = self.process(hop.task).filter(|series| !matches!(series.last.state, 'Z' | 'X'))?;
        Some((at, hop, series))
    }

    /// Whether it was found without its command, which had ended by then: the runtime wrote its pid down, and nobody has it.
    pub(super) fn is_command_gone(&self) -> bool {
        let session = self.session;
        let stands = !self.legs().is_empty() && session.exec_id.is_some();
        session.preexisting && stands && self.hop(Role::Process).is_none() && self.has_gap(&[GapCode::ProcessUnknown])
    }

    /// How what was asked for ended, where it did: as the tracer saw it, or because it is a zombie.
    pub(super) fn command_ended(&self) -> Option<(usize, &'a Hop)> {
        let (at, hop) = self.hop(Role::Process)?;
        let is_zombie = || self.process(hop.task).is_some_and(|series| series.last.state == 'Z');
        (hop.exit.is_some() || is_zombie()).then_some((at, hop))
    }

    /// A hop that is stopped by a signal, in two samples.
    pub(super) fn is_stopped(&self, task: TaskKey) -> bool {
        self.host.is_stopped(task)
    }

    fn end(&self, socket: SocketId) -> End<'a> {
        End { socket, series: self.host.report.measures.tcp(socket) }
    }

    /// Its TCP connections, from the client inwards, with those that leave this host.
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

    /// Its outermost ends here: the process at the other end is not known.
    pub(super) fn outermost(&self) -> impl Iterator<Item = Side<'a>> + '_ {
        let own = self.host.report.loose.iter().filter(|one| one.session.as_ref() == Some(&self.session.id));
        own.map(|one| Side {
            link: None,
            hop: self.session.hops.iter().position(|hop| hop.task == one.task),
            other_hop: None,
            end: Some(self.end(one.socket.id)),
            other: None,
            tuple: one.socket.tuple,
        })
    }

    /// What is found at that end.
    pub(super) fn found_at(&self, side: &Side<'_>) -> Found {
        let about = About {
            pid: side.hop.and_then(|at| self.session.hops.get(at)).map(|hop| hop.task.tgid),
            inode: side.end.and_then(|end| end.socket.inode),
            local: side.tuple.map(|tuple| tuple.local),
            remote: side.tuple.map(|tuple| tuple.remote),
            fd: None,
        };
        Found {
            hop: side.hop,
            link: side.link,
            about,
            since: Self::at_least_since(side.end.or(side.other)),
            ..Found::default()
        }
    }

    /// The role of a hop in words.
    pub(super) fn called(&self, hop: Option<usize>) -> String {
        match hop.and_then(|at| self.session.hops.get(at)) {
            Some(hop) => format!("{} (pid {})", hop.role.token(), hop.task.tgid),
            None => "the other host".to_owned(),
        }
    }

    /// What runc has started and that has not become what was asked for yet: `runc:[2:INIT]`.
    pub(super) fn beginnings(&self) -> Vec<(TaskKey, &'a Series<ProcessMeasure>)> {
        let Some((_, runc)) = self.hop(Role::Runc).filter(|_| self.last_role() == Some(Role::Runc)) else {
            return Vec::new();
        };
        let is_child = |series: &Series<ProcessMeasure>| series.last.parent == Some(runc.task.tgid);
        self.host.report.measures.processes().filter(|(_, series)| is_child(series)).collect()
    }

    /// What was asked for, and what has not become it yet.
    pub(super) fn inside(&self) -> Vec<(TaskKey, &'a Series<ProcessMeasure>)> {
        let command = self.command().map(|(_, hop, series)| (hop.task, series));
        command.into_iter().chain(self.beginnings()).collect()
    }

    /// The shim of its container.
    pub(super) fn shim(&self) -> Option<TaskKey> {
        let hop = self.hop(Role::Shim).map(|(_, hop)| hop.task);
        hop.or_else(|| {
            let shims = self.host.shims_of(self.session.target.container_id.as_deref()?);
            shims.first().copied().filter(|_| shims.len() == 1)
        })
    }

    /// The leg that ends at this role.
    pub(super) fn leg_to(&self, role: Role) -> Option<Leg<'a>> {
        let is =
            |leg: &Leg<'_>| leg.far_hop.and_then(|at| self.session.hops.get(at)).is_some_and(|hop| hop.role == role);
        self.legs().into_iter().rev().find(is)
    }

    /// Bytes of a closed leg, as its near end counted them: sent, received.
    pub(super) fn bytes(&self, leg: &Leg<'_>) -> Option<(u64, u64)> {
        let closed = leg.link.and_then(|at| self.session.links[at].tcp).and_then(|ends| ends.sent.zip(ends.received));
        closed.or_else(|| {
            let info = leg.near?.series?.last.info?;
            Some((info.bytes_acked, info.bytes_received))
        })
    }

    /// Whether its stream may serve an exec that is told as a session of its own: then what it lacks is known of that one.
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

    /// FIFOs of its exec that are held, and by whom.
    pub(super) fn fifos(&self) -> &'a [Held<'a>] {
        self.host.fifos_of(self.session)
    }

    /// Pipes through which a runc that stays hands the output to the runtime that started it, with the stream's name. Empty
    /// where a shim does that.
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

    /// The `runc exec` that stays as long as the command does: a child of the runtime itself.
    pub(super) fn foreground_runc(&self) -> Option<TaskKey> {
        let (at, runc) = self.hop(Role::Runc).filter(|(_, hop)| hop.exit.is_none())?;
        let above = at.checked_sub(1).and_then(|above| self.session.hops.get(above))?;
        let runs = self.hop(Role::Process).is_some();
        (above.role == Role::Runtime && runs).then_some(runc.task)
    }

    /// Descriptor of what was asked for, where bytes pass through it.
    pub(super) fn descriptor(&self, fd: u32) -> Option<&'a Descriptor> {
        let (_, hop) = self.hop(Role::Process)?;
        let own = self.host.report.measures.descriptors(hop.task);
        own.iter().find(|one| one.fd == fd && one.kind != FileKind::Other)
    }

    pub(super) fn file(&self, one: &Descriptor) -> Option<&'a Series<FileMeasure>> {
        self.host.report.measures.file(one.kind, one.file)
    }

    /// Processes that take part in what was asked for, as far as they were measured: itself, and on a terminal those of its
    /// foreground group; without one those that hold its stdin.
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
        // On a terminal those in the background are not asked.
        measured.filter(|(_, one)| stdin.kind != FileKind::Pty || one.last.group == series.last.foreground).collect()
    }

    /// Who of them reads standard input at this moment.
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

    /// Whether a session cannot go on without this daemon: it is on the path, or is the shim of the container.
    pub(super) fn hangs_on(&self, daemon: TaskKey) -> bool {
        self.session.hops.iter().any(|hop| hop.task == daemon) || self.shim() == Some(daemon) || self.waits_for(daemon)
    }

    /// Whether the path ends at a kubelet that has to ask this runtime before anything runs.
    fn waits_for(&self, runtime: TaskKey) -> bool {
        let asks = matches!(self.session.kind, Kind::Exec | Kind::Cp | Kind::Attach | Kind::Debug | Kind::PortForward);
        let last = self.session.hops.last().filter(|hop| asks && hop.role == Role::Kubelet);
        let mut standing = self.host.report.standing.iter();
        last.is_some_and(|kubelet| standing.any(|one| one.near.0 == kubelet.task && one.far.0 == runtime))
    }

    /// The hop at which a fault of this daemon shows: its own, else the last one that was reached.
    pub(super) fn place_of(&self, daemon: TaskKey) -> Option<usize> {
        let hops = &self.session.hops;
        hops.iter().rposition(|hop| hop.task == daemon).or_else(|| hops.len().checked_sub(1))
    }

    /// What was asked before this step, and what the answer was.
    pub(super) fn trail(&self, until: Step) -> Vec<Reading> {
        let legs = self.legs();
        let mut steps = Vec::new();
        let ends = || legs.iter().flat_map(|leg| [leg.near, leg.far]).flatten().filter_map(|end| end.series);
        if until > Step::Legs && ends().next().is_some() {
            let standing = ends().filter(|series| series.last.state == TcpState::Established).count();
            steps.push(number("ends of TCP legs that stand", standing as u64, ""));
        }
        if let (Some((_, hop, series)), true) = (self.command(), until > Step::Process) {
            let state = series.last.state.to_string();
            steps.push(word(format!("state of the process (pid {})", hop.task.tgid), state.as_str()));
        }
        if until > Step::Silence && ends().next().is_some() {
            let silent = ends().filter(|series| retransmits(&series.last)).count();
            steps.push(number("ends that send again and get no answer", silent as u64, ""));
        }
        if until > Step::Queues && ends().any(|series| both(series).is_some()) {
            let unread = legs.iter().filter(|leg| queues::unread_at(leg.near).is_some()).count();
            steps.push(number("legs of which output is not read", unread as u64, ""));
        }
        steps
    }

    /// When the sample before the last one was taken, of that end.
    pub(super) fn at_least_since(end: Option<End<'_>>) -> Option<BootTime> {
        end?.series?.before.as_ref().map(|(at, _)| *at)
    }

    /// How the client ended, where that was seen.
    pub(super) fn client_exit(&self) -> Option<ExitStatus> {
        self.session.hops.first().filter(|hop| hop.role == Role::Client)?.exit
    }
}

/// Whether the other end of it, on another host, has been silent for longer than any ping of kubectl's.
pub(super) fn is_silent_beyond(leg: &Leg<'_>) -> bool {
    // kubectl pings every 5 s and waits for an answer for 61 s (client-go, tools/remotecommand/websocket.go).
    const PONG: u32 = 61_000;
    let here = match (leg.near, leg.far) {
        (Some(end), None) | (None, Some(end)) => end,
        (None, None) | (Some(_), Some(_)) => return false,
    };
    here.series.and_then(|series| series.last.info).is_some_and(|info| info.last_received_ms > PONG)
}

/// Whether it sends the same again and again.
pub(super) fn retransmits(tcp: &TcpMeasure) -> bool {
    // Once or twice is what any lossy network does.
    const OFTEN: u8 = 3;
    let by_timer = tcp.timer.is_some_and(|timer| timer.kind == TimerKind::Retransmit && timer.retries >= OFTEN);
    by_timer || tcp.info.is_some_and(|info| info.backoff >= OFTEN && info.unacked > 0 && info.retransmits > 0)
}
