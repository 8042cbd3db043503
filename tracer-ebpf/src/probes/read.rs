//! read(2) of a daemon's goroutines. Attached only on demand: every read(2) of the host pays for it.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use tracer_common::WatchClass;

use super::{argument, word};
use crate::{
    kernel::{file::fifo_of, go},
    reads,
    watch::watched_endpoint,
};

/// kernel: fs/read_write.c:read(unsigned int fd, char *buf, size_t count). Called by Go's os.File.Read.
#[tracepoint(category = "syscalls", name = "sys_enter_read")]
pub fn sys_enter_read(ctx: TracePointContext) -> u32 {
    let _none = try_read(&ctx);
    0
}

#[inline(always)]
fn try_read(ctx: &TracePointContext) -> Option<()> {
    let (tgid, watch) = watched_endpoint()?;
    if watch.class != WatchClass::Daemon as u8 {
        return None;
    }
    let fd = word!(ctx, argument(0))? as u32;
    let (key, actor) = go::actor(tgid, watch);
    match fifo_of(fd) {
        // Without its id, a goroutine cannot be distinguished from the next one with its `g`.
        Some((device, inode)) if actor.goid != 0 => reads::store(&key, &actor, device, inode),
        _ => reads::forget(&key),
    }
    Some(())
}
