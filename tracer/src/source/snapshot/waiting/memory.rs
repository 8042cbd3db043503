//! Memory of another process, read and never written.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    os::unix::fs::FileExt,
};

use crate::source::snapshot::procfs::Mappings;

/// Memory at addresses.
pub(super) trait Memory {
    /// Fills `into`; false if the memory cannot be read.
    fn read(&self, at: u64, into: &mut [u8]) -> bool;
}

/// `/proc/PID/mem`, which stays bound to the process that had the pid when it was opened (fs/proc/base.c: `mem_open`).
impl Memory for File {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        self.read_exact_at(into, at).is_ok()
    }
}

/// Reads of one process. Each file takes some hundred. A process that makes walks long is given up.
const MAX_READS: u32 = 1 << 20;
/// Smallest page of any kernel in bytes. Heaps begin and end at pages.
const PAGE: u64 = 4 << 10;
const PAGE_WORDS: usize = 512;
/// Pages in the cache: 16 MiB. A thousand sessions touch about as many.
const MAX_PAGES: usize = 4 << 10;

/// Reads words of a process, within its mappings and a budget of reads.
pub(super) struct Words<'a> {
    memory: &'a dyn Memory,
    mappings: &'a Mappings,
    left: Cell<u32>,
}

impl<'a> Words<'a> {
    /// Reads this memory, within these mappings.
    pub(super) fn new(memory: &'a dyn Memory, mappings: &'a Mappings) -> Self {
        Self { memory, mappings, left: Cell::new(MAX_READS) }
    }

    /// True while the budget lasts. Once it is used up, a missing word might have contradicted the others.
    pub(super) fn is_complete(&self) -> bool {
        self.left.get() > 0
    }

    /// True if `bytes` at this address may be an object of the heap or of the runtime.
    fn holds(&self, at: u64, bytes: u64) -> bool {
        at.is_multiple_of(8) && within(&self.mappings.anonymous, at, bytes)
    }

    /// True if the word is an address inside a mapped file.
    pub(super) fn is_of_program(&self, word: u64) -> bool {
        word.is_multiple_of(8) && within(&self.mappings.files, word, 8)
    }

    /// `N` words at this address.
    pub(super) fn some<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        let mut bytes = [[0; 8]; N];
        self.fill(at, bytes.as_flattened_mut())?;
        Some(bytes.map(u64::from_le_bytes))
    }

    /// One word at this address.
    pub(super) fn one(&self, at: u64) -> Option<u64> {
        self.some::<1>(at).map(|[word]| word)
    }

    /// `count` words at this address.
    pub(super) fn many(&self, at: u64, count: usize) -> Option<Vec<u64>> {
        // Check the range before allocating: a hostile count may be huge.
        if !self.holds(at, u64::try_from(count).ok()?.checked_mul(8)?) {
            return None;
        }
        let mut bytes = vec![[0; 8]; count];
        self.fill(at, bytes.as_flattened_mut())?;
        Some(bytes.into_iter().map(u64::from_le_bytes).collect())
    }

    /// Bytes of the program or of a library, as the linker wrote them. Any address and length.
    pub(super) fn program(&self, at: u64, bytes: &mut [u8]) -> Option<()> {
        if !within(&self.mappings.files, at, u64::try_from(bytes.len()).ok()?) {
            return None;
        }
        self.left.set(self.left.get().checked_sub(1)?);
        self.memory.read(at, bytes).then_some(())
    }

    /// `count` words of the program at this address.
    pub(super) fn program_words(&self, at: u64, count: usize) -> Option<Vec<u64>> {
        if !within(&self.mappings.files, at, u64::try_from(count).ok()?.checked_mul(8)?) {
            return None;
        }
        let mut bytes = vec![[0; 8]; count];
        self.program(at, bytes.as_flattened_mut())?;
        Some(bytes.into_iter().map(u64::from_le_bytes).collect())
    }

    /// Ranges in which the program and libraries keep data that they change.
    pub(super) fn data(&self) -> &[(u64, u64)] {
        &self.mappings.data
    }

    fn fill(&self, at: u64, bytes: &mut [u8]) -> Option<()> {
        if !self.holds(at, u64::try_from(bytes.len()).ok()?) {
            return None;
        }
        self.left.set(self.left.get().checked_sub(1)?);
        self.memory.read(at, bytes).then_some(())
    }
}

/// A reader of words: of the process's memory, or of cached pages.
pub(super) trait ReadWords {
    /// `N` words at this address.
    fn some<const N: usize>(&self, at: u64) -> Option<[u64; N]>;

    /// True if the word is an address inside a mapped file.
    fn is_of_program(&self, word: u64) -> bool;

    /// True if the word may be the type of an interface: a type or `itab` of the program, or an `itab` that the runtime made
    /// (runtime/iface.go: `getitab`). The latter begins with two types of the program; other heap pointers rarely do.
    fn is_type(&self, word: u64) -> bool {
        self.is_of_program(word)
            || self.some(word).is_some_and(|types: [u64; 2]| types.into_iter().all(|one| self.is_of_program(one)))
    }

    /// One word at this address.
    fn one(&self, at: u64) -> Option<u64> {
        self.some::<1>(at).map(|[word]| word)
    }
}

impl ReadWords for Words<'_> {
    fn some<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        Words::some(self, at)
    }

    fn is_of_program(&self, word: u64) -> bool {
        Words::is_of_program(self, word)
    }
}

/// Words as of the first read of their page. Most words lead nowhere, and the cache shows it without another read. A word that leads
/// somewhere has to be read again.
pub(super) struct Pages<'a> {
    words: &'a Words<'a>,
    pages: RefCell<BTreeMap<u64, Vec<u64>>>,
}

impl<'a> Pages<'a> {
    /// An empty cache of these words.
    pub(super) fn new(words: &'a Words<'a>) -> Self {
        Self { words, pages: RefCell::default() }
    }
}

impl ReadWords for Pages<'_> {
    fn some<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        let (page, offset) = (at - at % PAGE, usize::try_from(at % PAGE / 8).ok()?);
        if !at.is_multiple_of(8) || offset + N > PAGE_WORDS {
            return self.words.some(at);
        }
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= MAX_PAGES {
            pages.clear();
        }
        let words = match pages.entry(page) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.words.many(page, PAGE_WORDS)?),
        };
        words.get(offset..offset + N)?.try_into().ok()
    }

    fn is_of_program(&self, word: u64) -> bool {
        self.words.is_of_program(word)
    }
}

/// True if all of these bytes lie in one of these ranges.
fn within(ranges: &[(u64, u64)], at: u64, bytes: u64) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= at);
    let range = after.checked_sub(1).and_then(|index| ranges.get(index));
    range.is_some_and(|(_, end)| at.checked_add(bytes).is_some_and(|behind| behind <= *end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_outside_mappings_are_not_read() {
        let words: [u64; 4] = [1, 2, 0x1000, 0x1ff8];
        let at = words.as_ptr() as u64;
        let memory = File::open("/proc/self/mem").unwrap();
        let mappings = |range| Mappings { anonymous: vec![range], files: vec![(0x1000, 0x2000)], data: Vec::new() };
        let own = mappings((at, at + 32));
        let read = Words::new(&memory, &own);
        assert_eq!(read.some(at + 8), Some([2, 0x1000]));
        for outside in [at - 8, at + 24, at + 1, 0, u64::MAX, u64::MAX - 7] {
            assert_eq!(read.some::<2>(outside), None);
        }
        assert!(read.is_type(at + 16) && read.is_type(0x1ff8));
        assert!([0, 0x1004, 0x2000, at, at + 8].into_iter().all(|word| !read.is_type(word)));
        let unmapped = mappings((8, u64::MAX));
        assert_eq!(Words::new(&memory, &unmapped).one(8), None, "the kernel says no");
        assert_eq!(Words::new(&memory, &unmapped).many(8, usize::MAX), None);
    }

    #[test]
    fn reads_end_with_the_budget() {
        struct Zero;
        impl Memory for Zero {
            fn read(&self, _at: u64, into: &mut [u8]) -> bool {
                into.fill(0);
                true
            }
        }
        let mappings = Mappings { anonymous: vec![(0, 64)], ..Mappings::default() };
        let read = Words::new(&Zero, &mappings);
        let reads = std::iter::from_fn(|| read.one(8)).count();
        assert_eq!((reads, read.is_complete()), (MAX_READS as usize, false));
    }
}
