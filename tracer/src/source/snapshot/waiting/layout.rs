//! Offsets of fields of Go's runtime and libraries, by version. They are no interface, so versions that are not listed in
//! `goroutine.rs` are unknown here, too. Readers check every field by the value that has to be there.

use crate::source::ebpf::goroutine;

/// Offsets of one version in bytes, equal on amd64 and arm64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of `runtime.pollDesc.rg`, behind `link`, `fd`, `fdseq` (since Go 1.21) and `atomicInfo` (runtime/netpoll.go). `wg` is the
    /// next word.
    pub(super) reader: u64,
    /// Encoding of a `runtime.pollDesc`'s address in `epoll_event.data`; `None`: the plain address.
    pub(super) tagged: Option<Tagged>,
    /// Of `poll.FD.pd`, behind `fdmu`, `Sysfd` and since Go 1.21 `SysFile` (internal/poll/fd_unix.go).
    pub(super) poller: u64,
    /// Of `runtime.g.goid`; `atomicstatus` and `stackLock` stand before it.
    pub(super) goid: u64,
    /// Of `runtime.g.parentGoid`.
    pub(super) parent_goid: Option<u64>,
    /// Words of `runtime.moduledata` before `gofunc` (runtime/symtab.go).
    pub(super) function_data: usize,
    /// Fields of `runtime._func` before its tables, of four bytes each; the last one is `funcID`, `flag`, padding and `nfuncdata`
    /// (runtime/runtime2.go).
    pub(super) function_fields: u32,
    /// Of `runtime.hchan.recvq.first`, behind `timer` since Go 1.23 (runtime/chan.go).
    pub(super) receivers: u64,
}

/// `taggedPointer` of runtime/tagptr_64bit.go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tagged {
    /// `tagBits`: number of low bits that hold the low bits of `pollDesc.fdseq`.
    bits: u32,
    /// Low bits of the address that are left out because they are zero.
    align: u32,
}

impl Layout {
    /// Layout of a Go version such as `go1.26.6`. `None` before Go 1.18, whose `pollDesc` differs.
    pub(super) fn of(version: &str) -> Option<Self> {
        let g = goroutine::layout(version)?;
        let tagged = match g.minor {
            ..=17 => return None,
            18..=20 => None,
            21..=24 => Some(Tagged { bits: 19, align: 3 }),
            25.. => Some(Tagged { bits: 24, align: 9 }),
        };
        let (reader, poller) = if tagged.is_some() { (32, 32) } else { (24, 24) };
        // Go 1.20 added `covctrs` and `ecovctrs`, and `startLine`; Go 1.27 `typedesclen`, `itaboffset` and `itabsize`.
        let (function_data, function_fields) = match g.minor {
            ..=19 => (38, 10),
            20..=26 => (40, 11),
            27.. => (43, 11),
        };
        let (goid, parent_goid) = (g.goid.into(), g.parent_goid.map(u64::from));
        let receivers = if g.minor >= 23 { 64 } else { 56 };
        Some(Self { reader, tagged, poller, goid, parent_goid, function_data, function_fields, receivers })
    }

    /// Splits `epoll_event.data` into address and tag. Addresses of user space have their highest bits clear, so no sign has to be
    /// extended.
    pub(super) fn poller_of(&self, data: u64) -> (u64, Option<u64>) {
        match self.tagged {
            None => (data, None),
            Some(Tagged { bits, align }) => (data >> bits << align, Some(data & ((1 << bits) - 1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_data_is_a_tagged_address_since_1_21() {
        let address = 0x7f01_1552_6000;
        let old = Layout::of("go1.19.8").unwrap();
        assert_eq!(old.poller_of(address), (address, None));
        let tagged = Layout::of("go1.22.10").unwrap();
        assert_eq!(tagged.poller_of(address << 16 | 5), (address, Some(5)));
        let wider = Layout::of("go1.26.6 X:nodwarf5").unwrap();
        assert_eq!(wider.poller_of(address << 15 | 7), (address, Some(7)));
        assert_eq!((old.reader, tagged.reader, wider.reader), (24, 32, 32));
        for unknown in ["go1.17.13", "go1.28.1", "devel", ""] {
            assert_eq!(Layout::of(unknown), None, "{unknown}");
        }
    }
}
