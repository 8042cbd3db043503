//! Another process's memory, read and never written.

use std::{cell::Cell, fs::File, os::unix::fs::FileExt};

/// Something that has words at addresses.
pub(super) trait Memory {
    /// Fills `into`, or says that it cannot.
    fn read(&self, at: u64, into: &mut [u8]) -> bool;
}

/// `/proc/PID/mem`: stays with the process whose it was when it was opened (fs/proc/base.c: `mem_open`).
impl Memory for File {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        self.read_exact_at(into, at).is_ok()
    }
}

/// Reads of all FIFOs together: some hundred each. A process that makes walks long is given up on.
const MAX_READS: u32 = 1 << 20;

/// Reads words, within anonymous writable mappings and a budget.
pub(super) struct Words<'a> {
    memory: &'a dyn Memory,
    /// `(start, end)`, in order.
    ranges: &'a [(u64, u64)],
    left: Cell<u32>,
}

impl<'a> Words<'a> {
    pub(super) fn new(memory: &'a dyn Memory, ranges: &'a [(u64, u64)]) -> Self {
        Self { memory, ranges, left: Cell::new(MAX_READS) }
    }

    /// Whether everything that was asked for was looked at: what is missing might have spoken against the rest.
    pub(super) fn is_complete(&self) -> bool {
        self.left.get() > 0
    }

    /// Whether `bytes` from there on may be an object of the heap, or of the runtime.
    pub(super) fn holds(&self, at: u64, bytes: u64) -> bool {
        let after = self.ranges.partition_point(|(start, _)| *start <= at);
        let range = after.checked_sub(1).and_then(|index| self.ranges.get(index));
        at.is_multiple_of(8) && range.is_some_and(|(_, end)| at.checked_add(bytes).is_some_and(|behind| behind <= *end))
    }

    /// `N` words from there on.
    pub(super) fn some<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        self.many(at, N)?.try_into().ok()
    }

    pub(super) fn one(&self, at: u64) -> Option<u64> {
        self.some::<1>(at).map(|[word]| word)
    }

    /// That many words from there on.
    pub(super) fn many(&self, at: u64, count: usize) -> Option<Vec<u64>> {
        if !self.holds(at, u64::try_from(count).ok()?.checked_mul(8)?) {
            return None;
        }
        self.left.set(self.left.get().checked_sub(1)?);
        let mut bytes = vec![0; count * 8];
        if !self.memory.read(at, &mut bytes) {
            return None;
        }
        let (words, _) = bytes.as_chunks::<8>();
        Some(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_within_mappings_alone() {
        let words: [u64; 4] = [1, 2, 3, 4];
        let at = words.as_ptr() as u64;
        let memory = File::open("/proc/self/mem").unwrap();
        let ranges = [(at, at + 32)];
        let read = Words::new(&memory, &ranges);
        assert_eq!(read.some(at + 8), Some([2, 3]));
        for outside in [at - 8, at + 24, at + 1, 0, u64::MAX, u64::MAX - 7] {
            assert_eq!(read.some::<2>(outside), None);
        }
        let unmapped = [(8, u64::MAX)];
        assert_eq!(Words::new(&memory, &unmapped).one(8), None, "the kernel says no");
        assert_eq!(Words::new(&memory, &unmapped).many(8, usize::MAX), None);
    }

    #[test]
    fn a_budget_ends() {
        struct Zero;
        impl Memory for Zero {
            fn read(&self, _at: u64, into: &mut [u8]) -> bool {
                into.fill(0);
                true
            }
        }
        let ranges = [(0, 64)];
        let read = Words::new(&Zero, &ranges);
        let reads = std::iter::from_fn(|| read.one(8)).count();
        assert_eq!((reads, read.is_complete()), (MAX_READS as usize, false));
    }
}
