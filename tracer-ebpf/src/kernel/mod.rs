//! Typed access to kernel structures. Fields are at the offsets found in BTF (`OFFSETS`); a field that this kernel
//! lacks reads as `None`.

pub mod file;
pub mod go;
pub mod sock;
pub mod task;
pub mod unix;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tracer_common::{Counter, Offsets};

use crate::maps::count;

/// The value of one offset. Volatile, because the compiler must not fold the placeholder that the loader overwrites.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a plain read of an initialised static.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::OFFSETS.$field) }
    };
}
pub(crate) use offset;

/// The value of one setting. Volatile for the same reason.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: a plain read of an initialised static.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::CONFIG.$field) }
    };
}
pub(crate) use config;

/// True if the loader set this bit of [`tracer_common::Config::features`].
#[inline(always)]
pub fn has(feature: u32) -> bool {
    config!(features) & feature != 0
}

/// Reads a `T` at `base + offset` in kernel memory.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Option<T> {
    if base == 0 || offset == Offsets::ABSENT {
        return None;
    }
    // SAFETY: the helper checks the address; T is plain data everywhere it is used here.
    match unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) } {
        Ok(value) => Some(value),
        Err(_) => {
            count(Counter::ReadFailed);
            None
        }
    }
}

/// Reads a word of memory that may have been freed. A failure is no fault, and is not counted.
#[inline(always)]
pub fn read_stale(base: u64, offset: u32) -> Option<u64> {
    if base == 0 || offset == Offsets::ABSENT {
        return None;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const u64) }.ok()
}

/// Reads a pointer; `None` if it is null.
#[inline(always)]
pub fn pointer(base: u64, offset: u32) -> Option<u64> {
    read::<u64>(base, offset).filter(|to| *to != 0)
}
