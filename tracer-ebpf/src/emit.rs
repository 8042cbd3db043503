//! The ring buffer: reserve, fill, submit.

use aya_ebpf::{
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    maps::ring_buf::RingBufEntry,
};
use tracer_common::{ABI, Counter, Header, Kind, Record};

use crate::maps::{RING, count};

/// Subject of a record.
#[derive(Clone, Copy)]
pub struct About {
    pub tgid: u32,
    pub tid: u32,
    pub start_ns: u64,
}

/// Sends a record: `send!(KIND, ABOUT, |record: &mut TYPE| { … })`. The header is written here; the block writes all
/// other fields. Evaluates to `None` if the ring buffer is full; the loss is counted.
///
/// A macro, because the compiler does not inline closures into every probe: a call takes stack, and a probe has only 512
/// bytes of it.
macro_rules! send {
    ($kind:expr, $about:expr, |$record:ident: &mut $type:ty| $fill:block) => {
        match crate::emit::reserve::<$type>($kind, $about) {
            Some(mut entry) => {
                // SAFETY: the reservation holds a whole record, of which every bit pattern is valid, and no other program
                // writes it before it is submitted.
                let $record = unsafe { &mut *entry.as_mut_ptr() };
                $fill
                entry.submit(0);
                Some(())
            }
            None => None,
        }
    };
}
pub(crate) use send;

/// Reserves a record and writes its header. Returns `None` if the ring buffer is full; the loss is counted. The
/// caller must submit the record.
#[inline(always)]
pub fn reserve<T: Record + 'static>(kind: Kind, about: About) -> Option<RingBufEntry<T>> {
    // Read the clock before the reservation, so that within a CPU records are in the order of their times.
    // SAFETY: no argument.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    // Take a number even if the reservation fails: a hole marks the loss and its position.
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
