//! `struct unix_sock`.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use tracer_common::{Text, UNIX_PATH_BYTES};

use super::{offset, pointer, read, sock::Sock};

/// The other end of a unix socket.
///
/// kernel: include/net/af_unix.h:struct unix_sock
#[inline(always)]
pub fn peer(sock: Sock) -> Option<Sock> {
    pointer(sock.0, offset!(unix_peer)).map(Sock)
}

/// Writes the path that `sock` is bound to. An accepted socket has its listener's path
/// (net/unix/af_unix.c:unix_stream_connect).
#[inline(always)]
pub fn path(sock: Sock, into: &mut Text<{ UNIX_PATH_BYTES + 4 }>) {
    /// Size of `sun_family`, which precedes the path in `unix_address.name`.
    const FAMILY: u32 = 2;
    into.len = 0;
    into.truncated = 0;
    let Some(address) = pointer(sock.0, offset!(unix_addr)) else { return };
    // Compare 64 bits: the verifier carries the result of a comparison to the call below only for the whole register.
    let len = u64::from(read::<u32>(address, offset!(unix_address_len)).unwrap_or(0)).wrapping_sub(u64::from(FAMILY));
    if len == 0 || len > UNIX_PATH_BYTES as u64 {
        return;
    }
    let from = address + u64::from(offset!(unix_address_name)) + u64::from(FAMILY);
    // SAFETY: at most UNIX_PATH_BYTES bytes go into a larger buffer; the helper checks the source.
    if unsafe { bpf_probe_read_kernel(into.bytes.as_mut_ptr().cast(), len as u32, from as *const _) } == 0 {
        into.len = len as u32;
    }
}
