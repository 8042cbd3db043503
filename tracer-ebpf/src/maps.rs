//! Every map, with its capacity and the reason for it. Together below 24 MiB.
//!
//! A map with entries that sessions depend on is a plain hash: if it is full, the insertion fails and is counted
//! ([`Counter`]). An LRU map evicts silently, so LRU maps hold only pairs already reported: after an eviction, a pair
//! is reported once more.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{
    ActorKey, Config, Counter, FifoPairKey, Last, Offsets, PairKey, Reading, TouchKey, Tracked, Watch,
};

/// Records for the tracer. A session has 40 to 70 records in its life; the largest (argv) has 1.2 KiB. 4 MiB hold a
/// burst of a hundred starting sessions while the tracer does not run for a second. The loader may set another size.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Processes on the path, by tgid. An entry ends with its process. A node has some hundred shims and sessions; 16,384
/// is half of the usual pid_max. [`QUOTA`] keeps one user, or one container, from taking all entries.
#[map]
pub static WATCHED: HashMap<u32, Watch> = HashMap::with_max_entries(16_384, 0);

/// Number of processes in [`WATCHED`] that added themselves to the path, by [`tracer_common::Watch::quota`]. An entry
/// ends with its last process.
#[map]
pub static QUOTA: HashMap<u32, u64> = HashMap::with_max_entries(2_048, 0);

/// TCP ports of the path's listeners. A process that connects to one is added to the path. The value is unused.
#[map]
pub static PORTS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

/// The last receive of each actor. Measured: an API server has about 1,200 `g` structs at 1,100 sessions, and
/// thousands of sessions need only a few entries each. The loader removes entries of processes that have exited.
#[map]
pub static LAST: HashMap<ActorKey, Last> = HashMap::with_max_entries(65_536, 0);

/// TCP sockets on the path, by cookie (see [`Tracked`]): seven ends per session. An entry ends when its socket closes. Socket storage
/// (BPF_MAP_TYPE_SK_STORAGE) would have no capacity, but system call tracepoints, which handle accept(2), splice(2)
/// and mknod(2), may not read it: "program of this type cannot use helper bpf_sk_storage_get".
#[map]
pub static TRACKED: HashMap<u64, Tracked> = HashMap::with_max_entries(65_536, 0);

/// Pairs already reported: four per session and direction. The value is unused.
#[map]
pub static PAIRS: LruHashMap<PairKey, u32> = LruHashMap::with_max_entries(32_768, 0);

/// Creators and sockets already reported. A session's goroutines have one or two creators and touch two sockets; a
/// creator that accepts touches every socket once. See [`TouchKey`].
#[map]
pub static TOUCHED: LruHashMap<TouchKey, u64> = LruHashMap::with_max_entries(32_768, 0);

/// The FIFO that a goroutine of a daemon reads, while reads are watched: three per session.
#[map]
pub static READING: HashMap<ActorKey, Reading> = HashMap::with_max_entries(8_192, 0);

/// Pairs of FIFO and socket already reported. The value is unused.
#[map]
pub static FIFO_PAIRS: LruHashMap<FifoPairKey, u32> = LruHashMap::with_max_entries(8_192, 0);

/// One word, not 0 while reads are watched: the loader attaches and detaches `sys_enter_read`.
#[map]
pub static READS_WATCHED: Array<u32> = Array::with_max_entries(1, 0);

/// Descriptor of a pending connect(2), by pid_tgid: one per thread. An entry ends with the call or with its thread.
#[map]
pub static CONNECTING: HashMap<u64, u32> = HashMap::with_max_entries(8_192, 0);

/// Sockets of a pending splice(2), by pid_tgid: one per thread. An entry ends with the call or with its thread.
#[map]
pub static SPLICING: HashMap<u64, Splicing> = HashMap::with_max_entries(8_192, 0);

/// See [`Counter`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Written by the loader from BTF. Read-only, so the verifier knows the values.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::UNKNOWN;

/// Written by the loader.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    netns: 0,
    own_tgid: 0,
    g_register: Offsets::ABSENT,
    stack_register: Offsets::ABSENT,
    watch_quota: u32::MAX,
    watch_shared: u32::MAX,
    features: 0,
    registers_at: Offsets::ABSENT,
    first_argument: Offsets::ABSENT,
    third_argument: Offsets::ABSENT,
    fourth_argument: Offsets::ABSENT,
    reserved: 0,
};

/// The two sides of a splice(2). An address is that of the `struct sock`, or 0 if that side is no socket. A cookie is
/// that of the beginning of the call, because by its end the socket may be closed and its memory reused. It may be a
/// substitute ([`tracer_common::INODE_ID`]).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Splicing {
    pub from: u64,
    pub from_cookie: u64,
    pub to: u64,
    pub to_cookie: u64,
}

/// Adds one to a counter of this CPU and returns the new value.
#[inline(always)]
pub fn count(counter: Counter) -> u64 {
    match COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this CPU, and programs of one CPU do not interleave: preemption is off in
        // tracing programs. A nested program, from an interrupt, can at worst count one too few.
        Some(slot) => unsafe {
            *slot += 1;
            *slot
        },
        None => 0,
    }
}
