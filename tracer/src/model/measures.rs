//! Store of the latest measurements, from which the diagnosis reads.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Activity, BootTime, Descriptor, Fact, FileId, FileKind, FileMeasure, HostNo, Observation, ProcessMeasure, RawText,
    SocketId, Span, TaskKey, TcpMeasure, TcpState, Tuple, UnixMeasure, parse_fifo_path,
};

/// Latest value of a measurement, and the value before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series<T> {
    /// Time of the latest value.
    pub at: BootTime,
    /// Latest value.
    pub last: T,
    /// Previous value and its time.
    pub before: Option<(BootTime, T)>,
}

impl<T> Series<T> {
    fn take(series: Option<Self>, at: BootTime, value: T) -> Self {
        match series {
            // Measured again at the same moment: replace the value, keep the previous one.
            Some(old) if old.at >= at => Self { at: old.at, last: value, before: old.before },
            Some(old) => Self { at, last: value, before: Some((old.at, old.last)) },
            None => Self { at, last: value, before: None },
        }
    }

    /// Previous value, and the time between both values.
    #[must_use]
    pub fn earlier(&self) -> Option<(&T, Span)> {
        self.before.as_ref().map(|(at, value)| (value, self.at.since(*at)))
    }
}

/// A TCP socket that a process holds and no table of the kernel lists: its connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unlisted {
    /// Process that holds the socket.
    pub task: TaskKey,
    /// Descriptor number in that process.
    pub fd: u32,
    /// Inode number in sockfs.
    pub inode: u64,
}

/// First and last sighting of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenSpan {
    /// Time of the first sighting.
    pub first: BootTime,
    /// Time of the last sighting.
    pub last: BootTime,
}

/// Last write to a FIFO (`last`), and the time of its latest measurement (`at`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    at: BootTime,
    last: BootTime,
}

/// Latest two values of each measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    tcp: BTreeMap<SocketKey, (Option<Tuple>, Series<TcpMeasure>)>,
    activity: BTreeMap<SocketKey, Activity>,
    /// Last writes to FIFOs, by host, container and exec.
    fifos: BTreeMap<(HostNo, String, String), Used>,
    peers: BTreeMap<SocketKey, Series<Option<TcpState>>>,
    unix: BTreeMap<SocketKey, (Option<RawText>, Series<UnixMeasure>)>,
    processes: BTreeMap<TaskKey, Series<ProcessMeasure>>,
    files: BTreeMap<(FileKind, FileId), Series<FileMeasure>>,
    descriptors: BTreeMap<TaskKey, (BootTime, Vec<Descriptor>)>,
    unlisted: BTreeMap<Unlisted, SeenSpan>,
    gone: BTreeMap<SocketKey, BootTime>,
    /// Time of the latest measurement.
    at: Option<BootTime>,
}

/// Identity of a socket common to both sources: sock_diag reports the inode of every socket that a process holds.
type SocketKey = (HostNo, u64);

fn key(socket: SocketId) -> Option<SocketKey> {
    Some((socket.host, socket.inode?))
}

/// Maximum of entries per table: enough for 10,000 sessions with room to spare. Further entries are not kept.
const MAX: usize = 200_000;

impl Measures {
    /// Stores a measurement. Other facts are ignored.
    pub fn take(&mut self, seen: &Observation) {
        let at = seen.at;
        match (&seen.fact, seen.task) {
            (Fact::TcpMeasured { socket, tuple, measure }, _) => {
                let Some(key) = key(*socket) else { return };
                self.gone.remove(&key);
                if self.tcp.len() < MAX || self.tcp.contains_key(&key) {
                    let old = self.tcp.remove(&key).map(|(_, series)| series);
                    self.tcp.insert(key, (*tuple, Series::take(old, at, *measure)));
                    if let Some(info) = &measure.info {
                        let known = self.activity.get(&key).copied();
                        self.activity.insert(key, Activity::take(known, at, info));
                    }
                }
            }
            (Fact::PeerMeasured { socket, state }, _) => {
                let Some(key) = key(*socket) else { return };
                put(&mut self.peers, key, at, *state);
            }
            (Fact::UnixMeasured { socket, path, measure }, _) => {
                let Some(key) = key(*socket) else { return };
                self.gone.remove(&key);
                if self.unix.len() < MAX || self.unix.contains_key(&key) {
                    let old = self.unix.remove(&key).map(|(_, series)| series);
                    self.unix.insert(key, (path.clone(), Series::take(old, at, *measure)));
                }
            }
            (Fact::SocketGone { socket }, _) => {
                let Some(key) = key(*socket) else { return };
                if self.gone.len() < MAX {
                    self.gone.insert(key, at);
                }
            }
            (Fact::ProcessMeasured(measure), Some(task)) => put(&mut self.processes, task, at, (**measure).clone()),
            (Fact::FifoUsed { path, file, ago_ms }, _) => {
                self.fifo_used(Used { at, last: at.minus(Span::from_millis(*ago_ms)) }, path, *file)
            }
            (Fact::FileMeasured { kind, file, measure }, _) => put(&mut self.files, (*kind, *file), at, *measure),
            (Fact::Descriptors { descriptors }, Some(task)) => {
                if self.descriptors.len() < MAX {
                    self.descriptors.insert(task, (at, descriptors.clone()));
                }
            }
            (Fact::SocketUnlisted { fd, inode }, Some(task)) => {
                let one = Unlisted { task, fd: *fd, inode: *inode };
                if self.unlisted.len() < MAX || self.unlisted.contains_key(&one) {
                    self.unlisted.entry(one).or_insert(SeenSpan { first: at, last: at }).last = at;
                }
            }
            _ => return,
        }
        self.at = self.at.max(Some(at));
    }

    fn fifo_used(&mut self, used: Used, path: &RawText, file: FileId) {
        let Some(fifo) = path.as_str().and_then(parse_fifo_path) else { return };
        let key = (file.host, fifo.container, fifo.exec);
        if self.fifos.len() < MAX || self.fifos.contains_key(&key) {
            let known = self.fifos.entry(key).or_insert(used);
            *known = Used { at: used.at.max(known.at), last: used.last.max(known.last) };
        }
    }

    /// Payload activity of that end of a TCP connection.
    #[must_use]
    pub fn activity(&self, socket: SocketId) -> Option<&Activity> {
        self.activity.get(&key(socket)?)
    }

    /// Time of the last write to a FIFO of that exec.
    #[must_use]
    pub fn exec_used(&self, host: HostNo, container: &str, exec: &str) -> Option<BootTime> {
        self.fifos.get(&(host, container.to_owned(), exec.to_owned())).map(|used| used.last)
    }

    /// Time of the latest measurement; `None` before the first.
    #[must_use]
    pub fn at(&self) -> Option<BootTime> {
        self.at
    }

    /// State of one end of a TCP connection.
    #[must_use]
    pub fn tcp(&self, socket: SocketId) -> Option<&Series<TcpMeasure>> {
        self.tcp.get(&key(socket)?).map(|(_, series)| series)
    }

    /// Addresses of that end, if they were measured with its state.
    #[must_use]
    pub fn tuple(&self, socket: SocketId) -> Option<Tuple> {
        self.tcp.get(&key(socket)?).and_then(|(tuple, _)| *tuple)
    }

    /// State of the orphaned other end, whose address is on this host without a process; the inner `None` means that no
    /// table of the kernel lists it.
    #[must_use]
    pub fn peer(&self, socket: SocketId) -> Option<&Series<Option<TcpState>>> {
        self.peers.get(&key(socket)?)
    }

    /// State of one end of a unix connection.
    #[must_use]
    pub fn unix(&self, socket: SocketId) -> Option<&Series<UnixMeasure>> {
        self.unix.get(&key(socket)?).map(|(_, series)| series)
    }

    /// All measured ends of unix connections, by host and inode number, with the path of the listener.
    pub fn unixes(&self) -> impl Iterator<Item = ((HostNo, u64), Option<&RawText>, &Series<UnixMeasure>)> {
        self.unix.iter().map(|(key, (path, series))| (*key, path.as_ref(), series))
    }

    /// Measured ends of unix connections held by this process, by inode number.
    pub fn unixes_of(&self, task: TaskKey) -> impl Iterator<Item = (u64, Option<&RawText>, &Series<UnixMeasure>)> {
        let own = self.descriptors(task).iter().filter(|one| one.kind == FileKind::Socket);
        let own: BTreeSet<SocketKey> = own.map(|one| (one.file.host, one.file.inode)).collect();
        let unixes = self.unixes().filter(move |(key, ..)| own.contains(key));
        unixes.map(|((_, inode), path, series)| (inode, path, series))
    }

    /// Time at which the kernel no longer listed that socket.
    #[must_use]
    pub fn gone(&self, socket: SocketId) -> Option<BootTime> {
        self.gone.get(&key(socket)?).copied()
    }

    /// State of a process.
    #[must_use]
    pub fn process(&self, task: TaskKey) -> Option<&Series<ProcessMeasure>> {
        self.processes.get(&task)
    }

    /// All measured processes.
    pub fn processes(&self) -> impl Iterator<Item = (TaskKey, &Series<ProcessMeasure>)> {
        self.processes.iter().map(|(task, series)| (*task, series))
    }

    /// Fill level of a pipe, FIFO or terminal.
    #[must_use]
    pub fn file(&self, kind: FileKind, file: FileId) -> Option<&Series<FileMeasure>> {
        self.files.get(&(kind, file))
    }

    /// Measured descriptors of a process.
    #[must_use]
    pub fn descriptors(&self, task: TaskKey) -> &[Descriptor] {
        self.descriptors.get(&task).map_or(&[], |(_, descriptors)| descriptors)
    }

    /// Measured descriptors of every process.
    pub fn every_descriptor(&self) -> impl Iterator<Item = (TaskKey, &[Descriptor])> {
        self.descriptors.iter().map(|(task, (_, descriptors))| (*task, descriptors.as_slice()))
    }

    /// Drops all entries last measured before `at`.
    pub fn forget_before(&mut self, at: BootTime) {
        self.tcp.retain(|_, (_, series)| series.at >= at);
        let tcp = &self.tcp;
        self.fifos.retain(|_, used| used.at >= at);
        self.activity.retain(|key, _| tcp.contains_key(key));
        self.peers.retain(|_, series| series.at >= at);
        self.unix.retain(|_, (_, series)| series.at >= at);
        self.processes.retain(|_, series| series.at >= at);
        self.files.retain(|_, series| series.at >= at);
        self.descriptors.retain(|_, (taken, _)| *taken >= at);
        self.unlisted.retain(|_, told| told.last >= at);
        self.gone.retain(|_, taken| *taken >= at);
    }

    /// Processes that hold the file, with their descriptors.
    pub fn holders(&self, kind: FileKind, file: FileId) -> impl Iterator<Item = (TaskKey, &Descriptor)> {
        self.descriptors.iter().flat_map(move |(task, (_, descriptors))| {
            descriptors.iter().filter(move |one| one.kind == kind && one.file == file).map(|one| (*task, one))
        })
    }

    /// TCP sockets that a process holds and no table of the kernel lists. A single sighting may be a new socket that is
    /// not connected yet: no table lists those either.
    pub fn unlisted(&self) -> impl Iterator<Item = (Unlisted, SeenSpan)> + '_ {
        self.unlisted.iter().map(|(one, told)| (*one, *told))
    }
}

fn put<K: Ord, V>(into: &mut BTreeMap<K, Series<V>>, key: K, at: BootTime, value: V) {
    if into.len() < MAX || into.contains_key(&key) {
        let old = into.remove(&key);
        into.insert(key, Series::take(old, at, value));
    }
}
