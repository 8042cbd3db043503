//! Loads the object, attaches the planned probes, tells the kernel whom to watch. Everything goes with the process: no pins,
//! and links that the kernel drops with their file descriptors, so `kill -9` leaves nothing attached.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{Program, ProgramError, ProgramInfo, trace_point::TracePointLinkId},
};
use aya_log::EbpfLogger;
use tracer_common::{
    Actor, ActorKey, Config, Counter, Last, Offsets, ROLE_ACCEPTED, ROLE_CONNECTED, ROLE_LISTENING, ROLE_UNKNOWN,
    Reading, Tracked, Watch, WatchClass,
};

use super::{goroutine, object};
use crate::{
    model::{self, SocketId, SocketRole, TaskKey, WatchAs},
    plan::{Attach, ProbePlan, ProbeSpec, READ},
};

/// The group of tracepoints that system calls have.
const SYSCALLS: &str = "syscalls";

/// What the loader is asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only processes of the network namespace with this inode number come onto the path.
    pub netns: Option<u32>,
    /// TCP ports of the path's listeners.
    pub ports: Vec<u16>,
    /// Size of the ring buffer in bytes: a power of two and a multiple of the page size. `None`: the object's own.
    pub ring_bytes: Option<u32>,
    /// Capacities of maps by name, instead of the object's own: for tests that fill them.
    pub capacities: Vec<(&'static str, u32)>,
}

/// Processes of one user, or of root of one network namespace, may take one in so many places of [`WATCHED`].
const QUOTA: u32 = 8;
/// Those of all users but root together may take one in so many.
const SHARED: u32 = 2;
/// The map of watched processes, and its capacity in the object.
const WATCHED: (&str, u32) = ("WATCHED", 16_384);

impl Options {
    /// How many processes can be watched.
    fn watched(&self) -> u32 {
        self.capacities.iter().find(|(name, _)| *name == WATCHED.0).map_or(WATCHED.1, |(_, entries)| *entries)
    }
}

/// Why nothing can be traced.
#[derive(Debug)]
pub enum LoadError {
    /// The file named by the environment cannot be read.
    Object(PathBuf, io::Error),
    /// The object cannot be loaded.
    Load(EbpfError),
    /// The kernel's BTF cannot be read.
    Btf(aya::BtfError),
    /// A probe cannot be loaded or attached.
    Probe(&'static str, ProgramError),
    /// The object lacks a program or map of this name: it is of another version.
    Missing(&'static str),
    /// A map cannot be used.
    Map(&'static str, MapError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(path, error) => write!(f, "cannot read the BPF object {}: {error}", path.display()),
            Self::Load(error) => write!(f, "the kernel refused the BPF object: {error}"),
            Self::Btf(error) => write!(f, "cannot read the kernel's BTF: {error}"),
            Self::Probe(name, error) => write!(f, "cannot attach the probe {name}: {error}"),
            Self::Missing(name) => write!(f, "the BPF object has no `{name}`: it is of another version"),
            Self::Map(name, error) => write!(f, "cannot use the BPF map {name}: {error}"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Object(_, error) => Some(error),
            Self::Load(error) => Some(error),
            Self::Btf(error) => Some(error),
            Self::Probe(_, error) => Some(error),
            Self::Map(_, error) => Some(error),
            Self::Missing(_) => None,
        }
    }
}

/// BPF_EXIST: an entry that the kernel took off in the meantime is not put back.
const EXISTING: u64 = 2;
/// BPF_NOEXIST: what the kernel saw by itself is more than what was found.
const ABSENT: u64 = 1;

/// Probes that are attached, for as long as this lives.
pub struct Probes {
    watched: HashMap<MapData, u32, Watch>,
    counters: PerCpuArray<MapData, u64>,
    tracked: HashMap<MapData, u64, Tracked>,
    reading: HashMap<MapData, ActorKey, Reading>,
    last: HashMap<MapData, ActorKey, Last>,
    quota: HashMap<MapData, u32, u64>,
    reads_watched: Array<MapData, u32>,
    /// While reads are watched.
    read_link: Option<TracePointLinkId>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Probes that could not be attached although the plan had them, with the reason.
    pub failed: Vec<(&'static ProbeSpec, String)>,
    object: Ebpf,
}

/// Loads and attaches. The ring buffer comes back by itself: it is read elsewhere.
///
/// # Errors
/// When the kernel refuses the object, or a probe without which nothing can be seen.
pub fn attach(plan: &ProbePlan, offsets: Offsets, options: &Options) -> Result<(Probes, RingBuf<MapData>), LoadError> {
    let bytes = object::bytes().map_err(|(path, error)| LoadError::Object(path, error))?;
    let btf = Btf::from_sys_fs().map_err(LoadError::Btf)?;
    let arm = cfg!(target_arch = "aarch64");
    let config = Config {
        netns: options.netns.unwrap_or(0),
        own_tgid: std::process::id(),
        g_register: if arm { Config::G_REGISTER_AARCH64 } else { Config::G_REGISTER_X86_64 },
        stack_register: if arm { Config::STACK_REGISTER_AARCH64 } else { Config::STACK_REGISTER_X86_64 },
        watch_quota: options.watched() / QUOTA,
        watch_shared: options.watched() / SHARED,
    };
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&btf)).override_global("OFFSETS", &offsets, true).override_global("CONFIG", &config, true);
    if let Some(bytes) = options.ring_bytes {
        loader.map_max_entries("RING", bytes);
    }
    for (name, entries) in &options.capacities {
        loader.map_max_entries(name, *entries);
    }
    let mut object = loader.load(&bytes).map_err(LoadError::Load)?;
    // Its own diagnostics: an object without them is still an object.
    let logger = EbpfLogger::init(&mut object).ok();

    let mut ports: HashMap<_, u32, u32> = take(&mut object, "PORTS")?;
    for port in &options.ports {
        ports.insert(u32::from(*port), 1, 0).map_err(|error| LoadError::Map("PORTS", error))?;
    }
    let ring = take(&mut object, "RING")?;
    let watched = take(&mut object, "WATCHED")?;
    let counters = take(&mut object, "COUNTERS")?;
    let tracked = take(&mut object, "TRACKED")?;
    let reading = take(&mut object, "READING")?;
    let last = take(&mut object, "LAST")?;
    let quota = take(&mut object, "QUOTA")?;
    let reads_watched = take(&mut object, "READS_WATCHED")?;

    let mut failed = Vec::new();
    for probe in &plan.probes {
        let program = object.program_mut(probe.program).ok_or(LoadError::Missing(probe.program))?;
        match attach_one(program, probe, &btf) {
            Ok(()) => {}
            Err(error) if probe.required => return Err(LoadError::Probe(probe.program, error)),
            Err(error) => failed.push((*probe, error.to_string())),
        }
    }
    let probes = Probes {
        watched,
        counters,
        tracked,
        reading,
        last,
        quota,
        reads_watched,
        read_link: None,
        logger,
        failed,
        object,
    };
    Ok((probes, ring))
}

fn attach_one(program: &mut Program, probe: &ProbeSpec, btf: &Btf) -> Result<(), ProgramError> {
    match (program, probe.attach) {
        (Program::BtfTracePoint(program), Attach::BtfTracepoint(name)) => {
            program.load(name, btf)?;
            program.attach()?;
        }
        (Program::TracePoint(program), Attach::Syscall(name)) => {
            program.load()?;
            // One that is attached on demand is loaded all the same: whether the kernel takes it is known from the start.
            if !probe.on_demand {
                program.attach(SYSCALLS, name)?;
            }
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(())
}

fn take<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &'static str) -> Result<M, LoadError> {
    let map = object.take_map(name).ok_or(LoadError::Missing(name))?;
    M::try_from(map).map_err(|error| LoadError::Map(name, error))
}

impl Probes {
    /// Watches a process from now on. What the kernel found out by itself in the meantime stays.
    ///
    /// # Errors
    /// When the map is full.
    pub fn watch(&mut self, tgid: u32, mntns: u32, watch: WatchAs) -> Result<(), MapError> {
        let class = match watch {
            WatchAs::Endpoint => WatchClass::Endpoint,
            WatchAs::Daemon => WatchClass::Daemon,
            // The kernel alone knows lineages.
            WatchAs::Below | WatchAs::Contained => return Ok(()),
        };
        let known = self.watched.get(&tgid, 0).unwrap_or(Watch::NONE);
        let ranks_higher = known.class == 0 || class == WatchClass::Daemon;
        if ranks_higher {
            let go = if known.class == 0 { Watch::GO_UNKNOWN } else { known.go };
            let entry = Watch { mntns, class: class as u8, go, depth: 0, ..known };
            self.watched.insert(tgid, entry, 0)?;
        }
        Ok(())
    }

    /// Tells where the runtime of a watched Go program keeps a goroutine's id.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_program(&mut self, tgid: u32, program: &model::Program) -> Result<(), MapError> {
        let model::Program::Go(version) = program else { return Ok(()) };
        let Some(layout) = goroutine::layout(version) else { return Ok(()) };
        let (goid_offset, parent_goid_offset) = (layout.goid, layout.parent_goid.unwrap_or(0));
        let Ok(known) = self.watched.get(&tgid, 0) else { return Ok(()) };
        if (known.goid_offset, known.parent_goid_offset) == (goid_offset, parent_goid_offset) {
            return Ok(());
        }
        self.watched.insert(tgid, Watch { goid_offset, parent_goid_offset, ..known }, EXISTING)
    }

    /// Has the end of a connection told that is older than the probes. What the kernel saw of it by itself stays; a socket
    /// without a cookie cannot be known again.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn track(&mut self, socket: SocketId, owner: TaskKey, role: Option<SocketRole>) -> Result<(), MapError> {
        let Some(cookie) = socket.cookie else { return Ok(()) };
        let role = match role {
            Some(SocketRole::Accepted) => ROLE_ACCEPTED,
            Some(SocketRole::Connected) => ROLE_CONNECTED,
            Some(SocketRole::Listening) => ROLE_LISTENING,
            None => ROLE_UNKNOWN,
        };
        let tracked = Tracked {
            actor: Actor::NONE,
            start_ns: owner.start_ns(),
            inbound_cookie: 0,
            inbound_inode: 0,
            tgid: owner.tgid,
            tid: 0,
            role: u32::from(role),
            reserved: 0,
        };
        match self.tracked.insert(cookie, tracked, ABSENT) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    /// Watches, or no longer, which FIFOs goroutines of daemons read. Off at first: every read(2) of the host pays for it.
    /// Does nothing where it is so already, or where the plan has no such probe.
    ///
    /// # Errors
    /// When the probe cannot be attached or a map not be written; then reads are not watched.
    pub fn watch_reads(&mut self, wanted: bool) -> Result<(), LoadError> {
        let failed = |error| LoadError::Probe(READ, error);
        let Some(Program::TracePoint(program)) = self.object.program_mut(READ) else {
            return Err(LoadError::Missing(READ));
        };
        if wanted == self.read_link.is_some() || program.fd().is_err() {
            return Ok(());
        }
        let switch = |map: &mut Array<MapData, u32>| {
            map.set(0, u32::from(wanted), 0).map_err(|error| LoadError::Map("READS_WATCHED", error))
        };
        if !wanted {
            switch(&mut self.reads_watched)?;
            return self.read_link.take().map_or(Ok(()), |link| program.detach(link).map_err(failed));
        }
        // What was noted before is old: its goroutine may have read anything since.
        let noted: Vec<ActorKey> = self.reading.keys().filter_map(Result::ok).collect();
        for key in noted {
            // It may be gone, to make room.
            let _gone = self.reading.remove(&key);
        }
        self.read_link = Some(program.attach(SYSCALLS, READ).map_err(failed)?);
        switch(&mut self.reads_watched)
    }

    /// Forgets what processes received and read that are watched no more, and counts anew who takes how many places. Looks at
    /// every entry: some milliseconds for 10,000 of them.
    pub fn sweep(&mut self) {
        let mut watched = BTreeSet::new();
        let mut held: BTreeMap<u32, u64> = BTreeMap::new();
        for (tgid, watch) in self.watched.iter().filter_map(Result::ok) {
            watched.insert(tgid);
            for quota in Watch::quotas(watch.quota) {
                *held.entry(quota).or_default() += 1;
            }
        }
        let old: Vec<u32> = self.quota.keys().filter_map(Result::ok).collect();
        for quota in old.into_iter().filter(|quota| !held.contains_key(quota)) {
            let _gone = self.quota.remove(&quota);
        }
        for (quota, count) in held {
            // A full map limits no further user.
            let _full = self.quota.insert(quota, count, 0);
        }
        let is_over = |key: &ActorKey| !watched.contains(&key.tgid);
        let last: Vec<ActorKey> = self.last.keys().filter_map(Result::ok).filter(is_over).collect();
        let reading: Vec<ActorKey> = self.reading.keys().filter_map(Result::ok).filter(is_over).collect();
        // An entry that is gone by now needs no removal.
        for key in last {
            let _gone = self.last.remove(&key);
        }
        for key in reading {
            let _gone = self.reading.remove(&key);
        }
    }

    /// Takes a process off the list: it ended before it was on it.
    pub fn unwatch(&mut self, tgid: u32) {
        // Its exit probe may have been faster.
        let _gone = self.watched.remove(&tgid);
    }

    /// What the kernel watches that process for now.
    #[must_use]
    pub fn watched_as(&self, tgid: u32) -> Option<WatchAs> {
        let watch = self.watched.get(&tgid, 0).ok()?;
        WatchClass::from_number(u32::from(watch.class)).map(WatchAs::from)
    }

    /// What the kernel says of each program that is loaded: its id, its run time where that is measured.
    #[must_use]
    pub fn programs(&self) -> Vec<(&str, ProgramInfo)> {
        // A program that the plan left out is not loaded and has nothing to tell.
        self.object.programs().filter_map(|(name, program)| Some((name, program.info().ok()?))).collect()
    }

    /// Sum over all CPUs since the start.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |slots| slots.iter().sum())
    }

    /// Hands the object's own diagnostics to the `log` facade.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}
