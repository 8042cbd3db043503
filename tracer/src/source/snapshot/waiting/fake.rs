//! A process's memory, made up.

use std::collections::BTreeMap;

use super::memory::Memory;
use crate::source::snapshot::procfs::Mappings;

/// An interface's type.
pub(super) const TYPE: u64 = 0x20_0000;

/// Words by address; what is not said is 0.
pub(super) struct Fake(pub(super) BTreeMap<u64, u64>);

impl Fake {
    pub(super) fn put(&mut self, at: u64, words: &[u64]) {
        self.0.extend((at..).step_by(8).zip(words.iter().copied()));
    }

    /// A goroutine of Go 1.19 that is parked, with that stack of a page, and these words on it.
    pub(super) fn park(&mut self, g: u64, stack: u64, words: &[u64]) {
        let top = stack + 0x1000;
        self.put(g, &[stack, top]);
        self.put(g + 56, &[top - 0x100, 0, g]);
        self.put(g + 144, &[4, g]);
        self.put(top - 0x80, words);
    }
}

impl Memory for Fake {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        for (index, bytes) in into.chunks_mut(8).enumerate() {
            let word = self.0.get(&(at + 8 * index as u64)).copied().unwrap_or(0);
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        true
    }
}

pub(super) fn mappings() -> Mappings {
    Mappings { anonymous: vec![(0x1000, 0x10_0000)], files: vec![(TYPE, TYPE + 0x1000)] }
}
