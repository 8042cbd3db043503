//! Loads the object, attaches the planned probes, and fills the maps that select processes. Nothing outlives the process: there are
//! no pins, and the kernel drops links with their descriptors, so `kill -9` leaves nothing attached.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{Program, ProgramError, ProgramInfo},
};
use aya_log::EbpfLogger;
use tracer_common::{
    Actor, ActorKey, Config, Counter, Last, Offsets, ROLE_ACCEPTED, ROLE_CONNECTED, ROLE_LISTENING, ROLE_UNKNOWN,
    Reading, Tracked, Watch, WatchClass,
};

use super::{
    btf::Layout,
    goroutine, object,
    skipped_runs::SkippedRuns,
    tracepoint::{self, Attached},
};
use crate::{
    host_paths,
    model::{self, MapFill, SocketId, SocketRole, TaskKey, WatchAs},
    plan::{Attach, ProbePlan, ProbeSpec, READ, Road},
};

/// Options of the loader.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Inode number of the only network namespace whose processes are enrolled; `None`: all.
    pub netns: Option<u32>,
    /// TCP ports of listeners on the path.
    pub ports: Vec<u16>,
    /// Size of the ring buffer in bytes: a power of two and a multiple of the page size. `None`: the object's own.
    pub ring_bytes: Option<u32>,
    /// Capacities of maps by name, instead of the object's own. Tests fill small maps.
    pub capacities: Vec<(&'static str, u32)>,
    /// The only road to try; `None`: those of the plan, in order.
    pub road: Option<Road>,
}

/// Share of [`WATCHED`] for one user, or for root of one network namespace: one place in this many.
const QUOTA: u32 = 8;
/// Share of [`WATCHED`] for all users but root together: one place in this many.
const SHARED: u32 = 2;
/// The map of watched processes, and its capacity in the object.
const WATCHED: (&str, u32) = ("WATCHED", 16_384);

impl Options {
    /// Number of processes that can be watched.
    fn watched(&self) -> u32 {
        self.capacities.iter().find(|(name, _)| *name == WATCHED.0).map_or(WATCHED.1, |(_, entries)| *entries)
    }
}

/// Why the probes cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The object's file, named by the environment, cannot be read.
    Object(PathBuf, io::Error),
    /// The object cannot be loaded.
    Load(EbpfError),
    /// The kernel's BTF cannot be read.
    Btf(aya::BtfError),
    /// A probe cannot be loaded or attached.
    Probe(&'static str, ProgramError),
    /// A probe of a road cannot be loaded or attached.
    Road(Road, &'static str, ProgramError),
    /// The object lacks a program or map of this name, so it belongs to another version.
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
            Self::Road(road, name, error) => {
                write!(f, "cannot attach the probe {name} of the road {}: {error}", road.token())
            }
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
            Self::Probe(_, error) | Self::Road(_, _, error) => Some(error),
            Self::Map(_, error) => Some(error),
            Self::Missing(_) => None,
        }
    }
}

/// BPF_EXIST: update an entry, but do not restore one that the probes have removed.
const EXISTING: u64 = 2;
/// BPF_NOEXIST: add an entry, but do not replace one of the probes, which know more.
const ABSENT: u64 = 1;

/// Attached probes. Dropping the value detaches them.
pub struct Probes {
    watched: HashMap<MapData, u32, Watch>,
    counters: PerCpuArray<MapData, u64>,
    tracked: HashMap<MapData, u64, Tracked>,
    reading: HashMap<MapData, ActorKey, Reading>,
    last: HashMap<MapData, ActorKey, Last>,
    quota: HashMap<MapData, u32, u64>,
    reads_watched: Array<MapData, u32>,
    /// Capacity of each map that [`Probes::fill`] counts, by name.
    capacities: BTreeMap<&'static str, u32>,
    /// The probe of read(2); set while reads are watched.
    read: Option<Attached>,
    /// The other probes at tracepoints of system calls.
    _attached: Vec<Attached>,
    /// Mount point of tracefs.
    tracefs: PathBuf,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Planned probes that could not be attached, with the reason.
    pub failed: Vec<(&'static ProbeSpec, String)>,
    /// Road whose probes are attached; `None` if every road was refused.
    pub road: Option<Road>,
    /// Roads that the kernel refused before it, with the reason.
    pub refused: Vec<(Road, String)>,
    skipped_runs: SkippedRuns,
    object: Ebpf,
}

/// Loads the object and attaches the planned probes, with those of the first road that the kernel accepts. Returns the ring buffer
/// separately, because its reader borrows it.
///
/// A road decides settings of the object, which are constants once it is loaded. So each attempt loads the object anew. On most kernels
/// the first attempt succeeds.
///
/// # Errors
/// When the kernel refuses the object or a required probe, or the road that the options demand.
pub fn attach(plan: &ProbePlan, layout: &Layout, options: &Options) -> Result<(Probes, RingBuf<MapData>), LoadError> {
    let bytes = object::bytes().map_err(|(path, error)| LoadError::Object(path, error))?;
    let btf = Btf::parse_file(host_paths::get().btf_file(), Endianness::default()).map_err(LoadError::Btf)?;
    let attempt = |road| attach_road(&bytes, &btf, plan, layout, options, road);
    if options.road.is_some() {
        return attempt(options.road);
    }
    let mut refused = Vec::new();
    for road in &plan.roads {
        match attempt(Some(*road)) {
            Ok((probes, ring)) => return Ok((Probes { refused, ..probes }, ring)),
            Err(LoadError::Road(road, name, error)) => {
                log::debug!("the kernel refuses {name} of the road {}: {error}", road.token());
                let reason = error.to_string();
                refused.push((road, format!("{name}: {}", reason.lines().next().unwrap_or_default())));
            }
            Err(error) => return Err(error),
        }
    }
    let (probes, ring) = attempt(None)?;
    Ok((Probes { refused, ..probes }, ring))
}

/// Settings of the object on this kernel and road.
fn config(layout: &Layout, options: &Options, road: Option<Road>) -> Config {
    let arm = cfg!(target_arch = "aarch64");
    let [first_argument, third_argument, fourth_argument] =
        if arm { Config::ARGUMENTS_AARCH64 } else { Config::ARGUMENTS_X86_64 };
    // On other machines, kernels without the helper have stacks of other sizes.
    let registers_at = layout.registers_bytes.filter(|_| cfg!(target_arch = "x86_64"));
    let registers_at = registers_at.and_then(|bytes| Config::STACK_BYTES_X86_64.checked_sub(bytes));
    let mut features = 0;
    if layout.has_task_registers {
        features |= Config::TASK_REGISTERS;
    }
    if layout.makes_cookies {
        features |= Config::MAKES_COOKIES;
    }
    // Exits of system calls cannot make cookies, and no other probe of that road sees a unix socket.
    if !layout.makes_cookies || road == Some(Road::Syscalls) {
        features |= Config::INODE_IDS;
    }
    Config {
        netns: options.netns.unwrap_or(0),
        own_tgid: host_paths::own_pid().on_host,
        g_register: if arm { Config::G_REGISTER_AARCH64 } else { Config::G_REGISTER_X86_64 },
        stack_register: if arm { Config::STACK_REGISTER_AARCH64 } else { Config::STACK_REGISTER_X86_64 },
        watch_quota: options.watched() / QUOTA,
        watch_shared: options.watched() / SHARED,
        features,
        registers_at: registers_at.unwrap_or(Offsets::ABSENT),
        first_argument,
        third_argument,
        fourth_argument,
        reserved: 0,
    }
}

/// Loads the object for one road, and attaches the planned probes and those of the road.
fn attach_road(
    bytes: &[u8],
    btf: &Btf,
    plan: &ProbePlan,
    layout: &Layout,
    options: &Options,
    road: Option<Road>,
) -> Result<(Probes, RingBuf<MapData>), LoadError> {
    let config = config(layout, options, road);
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).override_global("OFFSETS", &layout.offsets, true).override_global("CONFIG", &config, true);
    if let Some(bytes) = options.ring_bytes {
        loader.map_max_entries("RING", bytes);
    }
    for (name, entries) in &options.capacities {
        loader.map_max_entries(name, *entries);
    }
    let mut object = loader.load(bytes).map_err(LoadError::Load)?;
    // The object's own diagnostics are optional.
    let logger = EbpfLogger::init(&mut object).ok();

    let mut ports: HashMap<_, u32, u32> = take(&mut object, "PORTS")?;
    for port in &options.ports {
        ports.insert(u32::from(*port), 1, 0).map_err(|error| LoadError::Map("PORTS", error))?;
    }
    let capacities = COUNTED.into_iter().filter_map(|name| Some((name, capacity(&object, name)?))).collect();
    let ring = take(&mut object, "RING")?;
    let watched = take(&mut object, "WATCHED")?;
    let counters = take(&mut object, "COUNTERS")?;
    let tracked = take(&mut object, "TRACKED")?;
    let reading = take(&mut object, "READING")?;
    let last = take(&mut object, "LAST")?;
    let quota = take(&mut object, "QUOTA")?;
    let reads_watched = take(&mut object, "READS_WATCHED")?;

    let tracefs = PathBuf::from(plan.tracefs.as_deref().unwrap_or_default());
    let (mut failed, mut attached) = (Vec::new(), Vec::new());
    let of_plan = plan.probes.iter().copied().map(|probe| (probe, None));
    let of_road = road.into_iter().flat_map(|road| road.probes().iter().map(move |probe| (probe, Some(road))));
    for (probe, road) in of_plan.chain(of_road) {
        let program = object.program_mut(probe.program).ok_or(LoadError::Missing(probe.program))?;
        match (attach_one(program, probe, btf, &tracefs), road) {
            (Ok(at), _) => attached.extend(at),
            (Err(error), Some(road)) if probe.required => return Err(LoadError::Road(road, probe.program, error)),
            (Err(error), None) if probe.required => return Err(LoadError::Probe(probe.program, error)),
            (Err(error), _) => failed.push((probe, error.to_string())),
        }
    }
    let skipped_runs = SkippedRuns::of(object.programs().map(|(_, program)| program));
    let probes = Probes {
        watched,
        counters,
        tracked,
        reading,
        last,
        quota,
        reads_watched,
        capacities,
        read: None,
        _attached: attached,
        tracefs,
        logger,
        failed,
        road,
        refused: Vec::new(),
        skipped_runs,
        object,
    };
    Ok((probes, ring))
}

/// Loads and attaches a program. aya keeps some programs attached itself; the caller keeps the others.
fn attach_one(
    program: &mut Program,
    probe: &ProbeSpec,
    btf: &Btf,
    tracefs: &Path,
) -> Result<Option<Attached>, ProgramError> {
    match (program, probe.attach) {
        (Program::BtfTracePoint(program), Attach::BtfTracepoint(name)) => {
            program.load(name, btf)?;
            program.attach()?;
        }
        (Program::FExit(program), Attach::Return(name)) => {
            program.load(name, btf)?;
            program.attach()?;
        }
        (Program::TracePoint(program), Attach::Syscall(name)) => {
            program.load()?;
            // Load a probe that is attached on demand, too: a refusal is known from the start.
            if !probe.on_demand {
                return Ok(Some(tracepoint::attach(program.fd()?.as_fd(), tracefs, name)?));
            }
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(None)
}

/// Maps that [`Probes::fill`] counts.
const COUNTED: [&str; 5] = ["WATCHED", "TRACKED", "LAST", "READING", "QUOTA"];

/// Number of entries that a map of the loaded object can hold.
fn capacity(object: &Ebpf, name: &str) -> Option<u32> {
    let Map::HashMap(map) = object.map(name)? else { return None };
    map.info().ok().map(|info| info.max_entries())
}

fn take<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &'static str) -> Result<M, LoadError> {
    let map = object.take_map(name).ok_or(LoadError::Missing(name))?;
    M::try_from(map).map_err(|error| LoadError::Map(name, error))
}

impl Probes {
    /// Watches a process from now on. An entry of the probes keeps its details, and is only raised to a daemon's.
    ///
    /// # Errors
    /// When the map is full.
    pub fn watch(&mut self, tgid: u32, mntns: u32, watch: WatchAs) -> Result<(), MapError> {
        let class = match watch {
            WatchAs::Endpoint => WatchClass::Endpoint,
            WatchAs::Daemon => WatchClass::Daemon,
            // Only the probes follow lineages.
            WatchAs::RuntimeChild | WatchAs::InContainer => return Ok(()),
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

    /// Sets the offsets of goroutine ids for a watched Go program. Has no effect on other programs and processes.
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

    /// Has the probes report the end of a connection that is older than they are. An entry of the probes stays. A socket without a
    /// cookie cannot be recognized, and is left out.
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
            inode: socket.inode.unwrap_or(0),
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

    /// Starts or stops watching which FIFOs the goroutines of daemons read. Off at first, because every read(2) of the host runs the
    /// probe. Has no effect if nothing changes, or if the plan lacks the probe.
    ///
    /// # Errors
    /// When the probe cannot be attached or a map cannot be written; reads are not watched then.
    pub fn watch_reads(&mut self, wanted: bool) -> Result<(), LoadError> {
        let Some(Program::TracePoint(program)) = self.object.program(READ) else {
            return Err(LoadError::Missing(READ));
        };
        let Ok(program) = program.fd() else { return Ok(()) };
        if wanted == self.read.is_some() {
            return Ok(());
        }
        let switch = |map: &mut Array<MapData, u32>| {
            map.set(0, u32::from(wanted), 0).map_err(|error| LoadError::Map("READS_WATCHED", error))
        };
        if !wanted {
            switch(&mut self.reads_watched)?;
            self.read = None;
            return Ok(());
        }
        // Entries of an earlier time are stale: the goroutines may have read other FIFOs since.
        let noted: Vec<ActorKey> = self.reading.keys().filter_map(Result::ok).collect();
        for key in noted {
            // The kernel may have removed the entry.
            let _gone = self.reading.remove(&key);
        }
        let attached = tracepoint::attach(program.as_fd(), &self.tracefs, READ);
        self.read = Some(attached.map_err(|error| LoadError::Probe(READ, error.into()))?);
        switch(&mut self.reads_watched)
    }

    /// Removes entries of processes that are no longer watched, and recounts the places that each user takes. Reads every entry, which
    /// takes some milliseconds for 10,000 of them.
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
            // A user without an entry is not limited.
            let _full = self.quota.insert(quota, count, 0);
        }
        let is_over = |key: &ActorKey| !watched.contains(&key.tgid);
        let last: Vec<ActorKey> = self.last.keys().filter_map(Result::ok).filter(is_over).collect();
        let reading: Vec<ActorKey> = self.reading.keys().filter_map(Result::ok).filter(is_over).collect();
        // The probes may have removed an entry by now.
        for key in last {
            let _gone = self.last.remove(&key);
        }
        for key in reading {
            let _gone = self.reading.remove(&key);
        }
    }

    /// Entries of the maps that links rest on. Reads every key, which takes some milliseconds for 10,000 of them.
    #[must_use]
    pub fn fill(&self) -> Vec<MapFill> {
        let count = |name: &str| match name {
            "WATCHED" => self.watched.keys().filter(Result::is_ok).count(),
            "TRACKED" => self.tracked.keys().filter(Result::is_ok).count(),
            "LAST" => self.last.keys().filter(Result::is_ok).count(),
            "READING" => self.reading.keys().filter(Result::is_ok).count(),
            _ => self.quota.keys().filter(Result::is_ok).count(),
        };
        let fill = |(name, capacity): (&&'static str, &u32)| {
            // Keys that change hands during the walk may be read twice.
            let entries = u32::try_from(count(name)).unwrap_or(u32::MAX).min(*capacity);
            MapFill { name, entries, capacity: *capacity }
        };
        self.capacities.iter().map(fill).collect()
    }

    /// Stops watching a process that ended before it was watched.
    pub fn unwatch(&mut self, tgid: u32) {
        // The exit probe may have removed the entry.
        let _gone = self.watched.remove(&tgid);
    }

    /// Class under which a process is watched now.
    #[must_use]
    pub fn watched_as(&self, tgid: u32) -> Option<WatchAs> {
        let watch = self.watched.get(&tgid, 0).ok()?;
        WatchClass::from_number(u32::from(watch.class)).map(WatchAs::from)
    }

    /// The kernel's data about each loaded program: its id, and its run time if the kernel measures it.
    #[must_use]
    pub fn programs(&self) -> Vec<(&str, ProgramInfo)> {
        // A program that the plan left out is not loaded.
        self.object.programs().filter_map(|(name, program)| Some((name, program.info().ok()?))).collect()
    }

    /// Value of a counter, summed over all CPUs, since the probes were loaded.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |slots| slots.iter().sum())
    }

    /// Number of runs that the kernel skipped, of all programs, since the probes were loaded; `None` before Linux 5.12.
    #[must_use]
    pub fn skipped_runs(&self) -> Option<u64> {
        self.skipped_runs.count()
    }

    /// Passes the object's own diagnostics to the `log` facade.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}
