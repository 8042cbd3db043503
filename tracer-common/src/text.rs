//! Bounded text from a process, with a mark if it was cut.

/// Up to `N` bytes of a process: not necessarily UTF-8, and NUL-separated in an argv.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text<const N: usize> {
    /// Number of valid bytes.
    pub len: u32,
    /// 1 if the text was longer than `N`.
    pub truncated: u32,
    /// The bytes; undefined beyond `len`.
    pub bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// The valid bytes. A length beyond the buffer is clamped to the buffer.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..(self.len as usize).min(N)]
    }
}
