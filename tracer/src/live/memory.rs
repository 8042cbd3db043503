//! Memory that only the start needed.

/// Returns free memory to the kernel. The kernel's types and the snapshot leave free blocks, which glibc keeps: 38 MB were
/// resident after the start, and 21 MB are without them.
#[cfg(target_env = "gnu")]
pub(super) fn release() {
    // SAFETY: malloc_trim(3) affects free blocks only. Any thread may call it at any time.
    let _was_released = unsafe { libc::malloc_trim(0) };
}

/// Other allocators return free memory by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) const fn release() {}
