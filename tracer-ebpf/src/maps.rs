//! Every map, with its capacity and the reason for it. Together under 24 MiB.
//!
//! A map whose entries sessions rest on is a plain hash: a full one refuses, and the refusal is counted ([`Counter`]). An LRU
//! map evicts without a trace, so only those are LRU maps that hold what was reported already: an evicted entry is
//! reported once more.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{Config, Counter, FifoPairKey, Last, LastKey, Offsets, PairKey, Reading, TouchKey, Tracked, Watch};

/// Records for the tracer. A session's whole life is 40 to 70 records, the largest (argv) 1.2 KiB; 4 MiB hold a burst of a
/// hundred sessions starting at once while the tracer does not run for a second. The loader may set another size.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Processes on the path, by tgid. Entries go with the process. A node has some hundred shims and sessions; 16,384 is
/// half of the usual pid_max. [`QUOTA`] keeps one user, or one container, from taking all of them.
#[map]
pub static WATCHED: HashMap<u32, Watch> = HashMap::with_max_entries(16_384, 0);

/// Processes in [`WATCHED`] that put themselves onto the path, by [`tracer_common::Watch::quota`]. An entry goes with its
/// last process.
#[map]
pub static QUOTA: HashMap<u32, u64> = HashMap::with_max_entries(2_048, 0);

/// TCP ports of the path's listeners: who connects there comes onto the path. Value: unused.
#[map]
pub static PORTS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

/// Who received where last. Measured: an API server has about 1,200 `g` structs at 1,100 sessions; thousands of sessions
/// need no more than a few entries each. Entries of processes that have exited are removed by the loader.
#[map]
pub static LAST: HashMap<LastKey, Last> = HashMap::with_max_entries(65_536, 0);

/// TCP sockets on the path, by cookie: seven ends a session. An entry goes when its socket closes. Socket storage
/// (BPF_MAP_TYPE_SK_STORAGE) would have no capacity, but system call tracepoints, which see accept(2), splice(2) and mknod(2),
/// may not read it: "program of this type cannot use helper bpf_sk_storage_get".
#[map]
pub static TRACKED: HashMap<u64, Tracked> = HashMap::with_max_entries(65_536, 0);

/// Pairs already told, with the number of sightings: four a session and direction.
#[map]
pub static PAIRS: LruHashMap<PairKey, u32> = LruHashMap::with_max_entries(32_768, 0);

/// Creators and sockets already told: a session's goroutines have one or two creators and touch two sockets; a creator that
/// accepts touches every socket once. See [`TouchKey`].
#[map]
pub static TOUCHED: LruHashMap<TouchKey, u64> = LruHashMap::with_max_entries(32_768, 0);

/// The FIFO that a goroutine of a daemon reads, while reads are watched: three a session.
#[map]
pub static READING: HashMap<LastKey, Reading> = HashMap::with_max_entries(8_192, 0);

/// FIFOs and sockets already told.
#[map]
pub static FIFO_PAIRS: LruHashMap<FifoPairKey, u32> = LruHashMap::with_max_entries(8_192, 0);

/// Its one word is not 0 while reads are watched: the loader attaches and detaches `sys_enter_read`.
#[map]
pub static READS_WATCHED: Array<u32> = Array::with_max_entries(1, 0);

/// fd of a connect(2) under way, by pid_tgid: one per thread. An entry goes with the call, or with its thread.
#[map]
pub static CONNECTING: HashMap<u64, u32> = HashMap::with_max_entries(8_192, 0);

/// Sockets of a splice(2) under way, by pid_tgid: one per thread. An entry goes with the call, or with its thread.
#[map]
pub static SPLICING: HashMap<u64, Splicing> = HashMap::with_max_entries(8_192, 0);

/// See [`Counter`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Filled in by the loader from BTF; read-only, so the verifier knows the values.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::UNKNOWN;

/// Filled in by the loader.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    netns: 0,
    own_tgid: 0,
    g_register: Offsets::ABSENT,
    stack_register: Offsets::ABSENT,
    watch_quota: u32::MAX,
    watch_shared: u32::MAX,
};

/// The two sides of a splice(2): address of the `struct sock`, or 0 where that side is not a socket; and its cookie when the
/// call began, because the socket may be closed and its memory another's when it ends.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Splicing {
    pub from: u64,
    pub from_cookie: u64,
    pub to: u64,
    pub to_cookie: u64,
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) -> u64 {
    match COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this CPU, and programs of one CPU do not interleave (preemption is off in tracing
        // programs; a nested one, from an interrupt, can at worst count one too few).
        Some(slot) => unsafe {
            *slot += 1;
            *slot
        },
        None => 0,
    }
}
