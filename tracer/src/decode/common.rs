//! Parts that records of several kinds share.

use tracer_common::Record;

use crate::model::Actor;

/// Reason for rejecting a record. Rejected records are counted and skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The record is shorter than its kind.
    Short {
        /// Size of that kind in bytes.
        want: usize,
        /// Size of the record in bytes.
        have: usize,
    },
    /// The record has another ABI version.
    Abi(u16),
    /// This version does not know the kind of the record.
    Kind(u16),
    /// The address family is invalid for this kind.
    Family(u16),
}

pub(super) fn read<T: Record>(bytes: &[u8]) -> Result<T, DecodeError> {
    let want = size_of::<T>();
    if bytes.len() < want {
        return Err(DecodeError::Short { want, have: bytes.len() });
    }
    // SAFETY: the length is checked; `Record` promises that any bytes are a valid T; an unaligned read has no alignment
    // requirement.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The kernel part writes 0 for a missing value.
pub(super) fn some(word: u32) -> Option<u32> {
    (word != 0).then_some(word)
}

pub(super) fn actor(record: &tracer_common::Actor) -> Actor {
    let some = |word: u64| (word != 0).then_some(word);
    Actor { g: some(record.g), goid: some(record.goid), parent_goid: some(record.parent_goid) }
}
