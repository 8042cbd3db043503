//! Bounded text from a process, which says when it was cut.

/// Up to `N` bytes, as the process has them: not necessarily UTF-8, NUL-separated where it is an argv.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text<const N: usize> {
    /// How many of `bytes` count.
    pub len: u32,
    /// 1 when there was more than fits.
    pub truncated: u32,
    /// The bytes; what lies behind `len` is not defined.
    pub bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// The bytes that count; a length beyond the buffer counts as the whole buffer.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..(self.len as usize).min(N)]
    }
}
