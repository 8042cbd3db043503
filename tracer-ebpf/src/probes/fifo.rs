//! FIFOs that runtimes make for the streams of an exec: their path contains the exec id.

use aya_ebpf::{
    helpers::{bpf_probe_read_user, generated::bpf_probe_read_user_str},
    macros::tracepoint,
    programs::TracePointContext,
};
use tracer_common::{FIFO_PATH_BYTES, Fifo, Kind, WatchClass};

use super::{argument, word};
use crate::{
    emit::send,
    kernel::{go, task::about_current},
    pairing::{last_received, role_of},
    watch::watched_endpoint,
};

/// include/uapi/linux/stat.h
const S_IFMT: u64 = 0o170_000;
const S_IFIFO: u64 = 0o010_000;

/// kernel: fs/namei.c:mknodat(int dfd, const char *filename, umode_t mode, unsigned int dev). Used by Go's Mkfifo and
/// glibc ≥ 2.33.
#[tracepoint(category = "syscalls", name = "sys_enter_mknodat")]
pub fn sys_enter_mknodat(ctx: TracePointContext) -> u32 {
    let _none = try_mknod(&ctx, argument(1));
    0
}

/// kernel: fs/namei.c:mknod(const char *filename, umode_t mode, unsigned dev). Used by older C libraries; arm64 has
/// no such call.
#[tracepoint(category = "syscalls", name = "sys_enter_mknod")]
pub fn sys_enter_mknod(ctx: TracePointContext) -> u32 {
    let _none = try_mknod(&ctx, argument(0));
    0
}

#[inline(always)]
fn try_mknod(ctx: &TracePointContext, filename: usize) -> Option<()> {
    let (tgid, watch) = watched_endpoint()?;
    if watch.class != WatchClass::Daemon as u8 || word!(ctx, filename + 8)? & S_IFMT != S_IFIFO {
        return None;
    }
    let path = word!(ctx, filename)?;
    let (key, actor) = go::actor(tgid, watch);
    send!(Kind::Fifo, about_current(), |record: &mut Fifo| {
        record.actor = actor;
        // SAFETY: a socket of zeros means none; every field is a number.
        record.inbound = unsafe { core::mem::zeroed() };
        if let Some((sock, cookie)) = last_received(&key, &actor) {
            sock.describe(cookie, role_of(sock, cookie), &mut record.inbound);
        }
        // SAFETY: the size is the buffer's; the helper checks the source and ends with NUL.
        let len = unsafe {
            bpf_probe_read_user_str(record.path.bytes.as_mut_ptr().cast(), FIFO_PATH_BYTES as u32, path as *const _)
        };
        record.path.len = if len > 0 { (len - 1) as u32 } else { 0 };
        // A path that fits to the byte and a longer path that was cut have the same length: read the next byte.
        let last = (path + FIFO_PATH_BYTES as u64 - 1) as *const u8;
        // SAFETY: the helper checks the address.
        let more = len as usize == FIFO_PATH_BYTES && unsafe { bpf_probe_read_user(last) } != Ok(0);
        record.path.truncated = u32::from(more);
    })
}
