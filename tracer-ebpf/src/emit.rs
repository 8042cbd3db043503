//! The way to the ring buffer: reserve, fill, submit.

use aya_ebpf::{
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    maps::ring_buf::RingBufEntry,
};
use tracer_common::{ABI, Counter, Header, Kind, Record};

use crate::maps::{RING, count};

/// Who a record is about.
#[derive(Clone, Copy)]
pub struct About {
    pub tgid: u32,
    pub tid: u32,
    pub start_ns: u64,
}

/// A place in the ring buffer with its header written; `None` (and counted) where there is none. The caller must submit it.
#[inline(always)]
pub fn reserve<T: Record + 'static>(kind: Kind, about: About) -> Option<RingBufEntry<T>> {
    // Before the reservation, so that the order of times is the order of records within a CPU.
    // SAFETY: no argument.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    // The number is taken in any case: a hole in it is a loss, at that place.
    let seq = count(Counter::Sequence);
    let Some(mut entry) = RING.reserve::<T>(0) else {
        count(Counter::RingFull);
        return None;
    };
    let header = entry.as_mut_ptr().cast::<Header>();
    // SAFETY: a record begins with its header (`Record`), and the ring buffer aligns to eight bytes.
    unsafe {
        (*header).kind = kind as u16;
        (*header).abi = ABI;
        (*header).cpu = bpf_get_smp_processor_id();
        (*header).seq = seq;
        (*header).at_ns = at_ns;
        (*header).tgid = about.tgid;
        (*header).tid = about.tid;
        (*header).start_ns = about.start_ns;
    }
    Some(entry)
}
