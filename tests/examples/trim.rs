//! Trims a recording to one session: `cargo run -p execpath-tests --example trim -- FROM TO [POD]`.
//!
//! Removed are other sessions, containers and processes, older sockets on no leg, and ticks. Daemons and client lose
//! the paths of their programs, daemons also their arguments: these describe the machine, not the session. The result
//! must give the same session; the tool checks this. Recordings in the repository are made this way.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::Path,
};

use execpath::{
    correlate::{Correlator, Options},
    model::{BootTime, Fact, Kind, Observation, RawText, Role, Session, SocketId, Source, TaskKey},
    record::{Header, Reader, RecordTarget, Writer},
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, pod @ ..] = words.as_slice() else { return Err("FROM and TO are needed".into()) };
    let mut reader = Reader::open(Path::new(from))?;
    let header = reader.header().clone();
    let mut all: Vec<Observation> = reader.by_ref().collect();
    let roles = session(&header, &all, pod.first())?.hops.into_iter().map(|hop| (hop.task, hop.role)).collect();
    for seen in &mut all {
        tidy(seen, &roles);
    }
    let session = session(&header, &all, pod.first())?;
    let keep = SessionIds::new(&session, &all);
    let kept: Vec<Observation> = all.into_iter().filter(|seen| keep.holds(seen)).collect();
    if self::session(&header, &kept, None)? != session {
        return Err("what is left gives another session".into());
    }
    let mut writer = Writer::begin(RecordTarget::create(Path::new(to))?, &header)?;
    for seen in &kept {
        writer.write(seen)?;
    }
    writer.finish()?;
    Ok(())
}

/// The only complete exec session, in this pod if one is given.
fn session(header: &Header, all: &[Observation], pod: Option<&String>) -> Result<Session, Box<dyn Error>> {
    let mut correlator = Correlator::new(&header.host, &Options { pairing: header.pairing(), ..Options::default() });
    for seen in all {
        correlator.ingest(seen.clone());
        drop(correlator.wants());
        drop(correlator.drain());
    }
    correlator.flush();
    let sessions = correlator.report().sessions;
    let asked = |session: &&Session| {
        session.kind == Kind::Exec && (pod.is_none() || session.target.pod.as_ref() == pod) && session.complete
    };
    let mut sessions = sessions.iter().filter(asked);
    match (sessions.next(), sessions.next()) {
        (Some(session), None) => Ok(Session { last_seen: BootTime::default(), ..session.clone() }),
        (None, _) => Err("no such session is complete".into()),
        (Some(_), Some(_)) => Err("more than one such session".into()),
    }
}

/// Removes facts that describe the machine alone.
fn tidy(seen: &mut Observation, roles: &BTreeMap<TaskKey, Role>) {
    let role = seen.task.and_then(|task| roles.get(&task));
    let (Fact::Exec(info) | Fact::Enrolled(info) | Fact::ProcessSeen(info)) = &mut seen.fact else { return };
    if role != Some(&Role::Process) {
        info.exe = None;
    }
    if !matches!(role, Some(Role::Client | Role::Runc | Role::Process)) && info.argv.len() > 1 {
        info.argv.truncate(1);
        info.argv_truncated = true;
        if let Some(name) = info.argv.first_mut() {
            let start = name.as_bytes().iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            *name = RawText::from(&name.as_bytes()[start..]);
        }
    }
}

/// Ids of everything that belongs to the session.
struct SessionIds {
    tasks: BTreeSet<TaskKey>,
    sockets: BTreeSet<SocketId>,
    exec: String,
    container: String,
    audit_id: Option<String>,
}

impl SessionIds {
    fn new(session: &Session, all: &[Observation]) -> Self {
        let mut tasks: BTreeSet<TaskKey> = session.hops.iter().map(|hop| hop.task).collect();
        let made: BTreeMap<TaskKey, TaskKey> = all
            .iter()
            .filter_map(|seen| match (&seen.fact, seen.task) {
                (Fact::Fork { child, .. }, Some(by)) => Some((*child, by)),
                (_, _) => None,
            })
            .collect();
        let runc = session.hops.iter().find(|hop| hop.role == Role::Runc).map(|hop| hop.task);
        let below = |task: &TaskKey| {
            std::iter::successors(Some(*task), |task| made.get(task).copied()).any(|above| Some(above) == runc)
        };
        tasks.extend(made.keys().filter(|task| below(task)));
        let tcp = session.links.iter().filter_map(|link| link.tcp).flat_map(|ends| [ends.near, ends.far]).flatten();
        Self {
            tasks,
            sockets: tcp.collect(),
            exec: session.exec_id.as_deref().unwrap_or_default().to_owned(),
            container: session.target.container_id.clone().unwrap_or_default(),
            audit_id: session.client.user.as_ref().and_then(|user| user.audit_id.clone()),
        }
    }

    fn holds(&self, seen: &Observation) -> bool {
        let ours = seen.task.is_some_and(|task| self.tasks.contains(&task));
        let process = |tgid: u32| self.tasks.iter().any(|task| task.tgid == tgid);
        let of_exec = |path: &[u8]| path.windows(self.exec.len()).any(|part| part == self.exec.as_bytes());
        match &seen.fact {
            Fact::Tick | Fact::Continued => false,
            Fact::Stopped
            | Fact::Lost { .. }
            | Fact::PeerAbsent { .. }
            | Fact::AuditFollowed
            | Fact::AuditSkipped { .. } => true,
            Fact::Audited(event) => self.audit_id.as_ref() == Some(&event.id),
            Fact::ContainerSeen(info) => info.id == self.container,
            Fact::ContainerUnknown { id } => *id == self.container,
            Fact::PidFile { path, .. } => of_exec(path.as_bytes()),
            Fact::FifoMade { path, .. } | Fact::FifoHeld { path, .. } | Fact::FifoAwaited { path, .. } => {
                ours && of_exec(path.as_bytes())
            }
            Fact::Fork { child, .. } => ours && self.tasks.contains(child),
            Fact::UnixAccepted { connector, .. } => ours && connector.is_some_and(process),
            Fact::RelayAwaited { from, to, .. } => {
                let is_own =
                    |id: &SocketId| self.sockets.iter().any(|one| one.cookie.is_some() && one.cookie == id.cookie);
                ours && is_own(from) && is_own(to)
            }
            Fact::SocketSeen { socket } if seen.source == Source::Snapshot => {
                ours && self.sockets.iter().any(|one| one.cookie.is_some() && one.cookie == socket.id.cookie)
            }
            Fact::TcpMeasured { socket, .. } | Fact::PeerMeasured { socket, .. } | Fact::SocketGone { socket } => {
                self.sockets.iter().any(|one| one.inode.is_some() && one.inode == socket.inode)
            }
            Fact::FifoUsed { path, .. } => of_exec(path.as_bytes()),
            // These facts have no task; the session's descriptors select the relevant ones.
            Fact::UnixMeasured { .. } | Fact::FileMeasured { .. } => true,
            Fact::Exec(_)
            | Fact::Enrolled(_)
            | Fact::ProcessSeen(_)
            | Fact::Ancestry(_)
            | Fact::ProcessGone
            | Fact::Watched
            | Fact::Looked
            | Fact::Exit { .. }
            | Fact::Listening { .. }
            | Fact::ListeningUnix { .. }
            | Fact::Connected { .. }
            | Fact::Dialled { .. }
            | Fact::ExecFailed { .. }
            | Fact::Signalled(_)
            | Fact::Accepted { .. }
            | Fact::Closed { .. }
            | Fact::SocketSeen { .. }
            | Fact::UnixConnected { .. }
            | Fact::Touched { .. }
            | Fact::FifoRelayed { .. }
            | Fact::Relayed { .. }
            | Fact::SocketUnlisted { .. }
            | Fact::ProcessMeasured(_)
            | Fact::Descriptors { .. } => ours,
        }
    }
}
