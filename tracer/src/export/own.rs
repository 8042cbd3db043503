//! The cost of this process: processor time and memory.

use std::{fs, time::Duration};

use rustix::{param::page_size, process::setpriority_process};

/// Normal priority. The thread of the trace has a higher one, which its threads inherit.
const NORMAL: i32 = 0;

/// Gives this thread the normal priority: a scrape must not keep the trace from reading.
pub(super) fn lower_priority() {
    if let Err(error) = setpriority_process(None, NORMAL) {
        tracing::debug!(%error, "the exporter keeps its priority");
    }
}

/// Processor time of all threads, in user mode and in the kernel.
pub(super) fn cpu() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage(2) writes the whole structure, which was zeroed before.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: all bit patterns are valid, and every byte is initialized.
    let usage = unsafe { usage.assume_init() };
    let of = |time: libc::timeval| {
        let micros = u64::try_from(time.tv_usec).unwrap_or(0);
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(micros)
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}

/// Resident memory in bytes, from the second field of `/proc/self/statm`; `None` if it cannot be read.
pub(super) fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cost_is_measured() {
        assert!(cpu() > Duration::ZERO);
        assert!(resident().unwrap() > 100_000);
    }
}
