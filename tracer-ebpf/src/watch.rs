//! The processes on the path.
//!
//! A process is added by an act: it listens on or connects to a port of the path, or a process on the path forks it.
//! The loader adds processes that ran before. A process is removed when it exits.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_get_current_comm,
        generated::{bpf_get_current_cgroup_id, bpf_probe_read_user},
    },
};
use aya_log_ebpf::warn;
use tracer_common::{ARGV_BYTES, Counter, Kind, Process, Text, Watch, WatchClass};

use crate::{
    emit::{About, send},
    kernel::{
        config,
        task::{Task, about_current, current_tgid},
    },
    maps::{PORTS, QUOTA, WATCHED, count},
};

/// The entry of this process; `None` if it is not on the path. The entry may be removed at any time (exit), which is
/// safe: a freed element stays readable until the program ends.
#[inline(always)]
pub fn watched(tgid: u32) -> Option<&'static mut Watch> {
    // SAFETY: map values stay mapped while the program runs. Words are written whole, and a torn read costs at most
    // one decision about a process that exits.
    WATCHED.get_ptr_mut(tgid).map(|entry| unsafe { &mut *entry })
}

/// The entry of the running process, if its sockets are watched.
#[inline(always)]
pub fn watched_endpoint() -> Option<(u32, &'static mut Watch)> {
    let tgid = current_tgid();
    let watch = watched(tgid)?;
    (watch.class == WatchClass::Endpoint as u8 || watch.class == WatchClass::Daemon as u8).then_some((tgid, watch))
}

/// True if this TCP port belongs to a listener of the path.
#[inline(always)]
pub fn is_path_port(port: u16) -> bool {
    PORTS.get_ptr(u32::from(port)).is_some()
}

/// Adds the running process to the path and reports it.
#[inline(always)]
pub fn enrol<C: EbpfContext>(ctx: &C) {
    let about = about_current();
    let task = Task::current();
    let (own, only) = (config!(own_tgid), config!(netns));
    if about.tgid == own || (only != 0 && task.netns() != only) {
        return;
    }
    if let Some(watch) = watched(about.tgid) {
        // The command of an exec, or of a container, is itself a client: watch its sockets from now on.
        if watch.class == WatchClass::InContainer as u8 {
            watch.class = WatchClass::Endpoint as u8;
            describe(Kind::Enrolled, about, task, WatchClass::Endpoint as u8);
        }
        return;
    }
    let quota = quota_of(task);
    let watch = Watch {
        start_ns: about.start_ns,
        mntns: task.mntns(),
        class: WatchClass::Endpoint as u8,
        quota,
        ..Watch::NONE
    };
    let has_room = has_room(quota);
    if !has_room || WATCHED.insert(about.tgid, watch, u64::from(BPF_NOEXIST)).is_err() {
        // -EEXIST is a harmless race with the loader; a full map or quota is a loss.
        if (!has_room || watched(about.tgid).is_none()) && count(Counter::WatchFull) == 1 {
            warn!(ctx, "the map of watched processes is full: process {} is not followed", about.tgid);
        }
        return;
    }
    take(quota);
    describe(Kind::Enrolled, about, task, WatchClass::Endpoint as u8);
}

/// Quota of a process in [`WATCHED`]: its user or, for root, its network namespace. An unprivileged user can make any
/// number of namespaces; root of a container has that of its pod.
#[inline(always)]
fn quota_of(task: Task) -> u32 {
    match task.uid() {
        0 => task.netns(),
        uid => uid,
    }
}

#[inline(always)]
fn has_room(quota: u32) -> bool {
    let (own, shared) = (config!(watch_quota), config!(watch_shared));
    held(quota) < u64::from(own) && (quota >= Watch::FIRST_NAMESPACE || held(Watch::OTHERS) < u64::from(shared))
}

#[inline(always)]
fn held(quota: u32) -> u64 {
    // SAFETY: one word is read.
    unsafe { QUOTA.get(quota) }.copied().unwrap_or(0)
}

#[inline(always)]
fn take(quota: u32) {
    add(quota, 1);
    if quota < Watch::FIRST_NAMESPACE {
        add(Watch::OTHERS, 1);
    }
}

/// Releases the quota of a process that has exited; 0 for processes added by the loader or by a fork.
#[inline(always)]
pub fn give_back(quota: u32) {
    if quota == 0 {
        return;
    }
    remove(quota);
    if quota < Watch::FIRST_NAMESPACE {
        remove(Watch::OTHERS);
    }
}

#[inline(always)]
fn add(quota: u32, count: u64) {
    match QUOTA.get_ptr_mut(quota) {
        // SAFETY: an aligned word in a map value, which stays mapped while the program runs. BPF's first instruction
        // set has no atomic addition that rustc would emit: two CPUs may lose a count, and the loader's next count
        // corrects it.
        Some(held) => unsafe { *held = (*held).wrapping_add(count) },
        None => {
            // With a full map, further users are limited only by the map of watched processes.
            let _full = QUOTA.insert(quota, count, u64::from(BPF_NOEXIST));
        }
    }
}

#[inline(always)]
fn remove(quota: u32) {
    if held(quota) <= 1 {
        let _gone = QUOTA.remove(quota);
    } else {
        // Minus one.
        add(quota, u64::MAX);
    }
}

/// Reports a description of the running process.
#[inline(never)]
pub fn describe(kind: Kind, about: About, task: Task, class: u8) -> u32 {
    let _full = send!(kind, about, |record: &mut Process| {
        let parent = task.parent();
        record.parent_tgid = parent.and_then(Task::tgid).unwrap_or(0);
        record.parent_start_ns = parent.map_or(0, Task::start_ns);
        // SAFETY: no argument.
        record.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
        record.uid = task.uid();
        record.login_uid = task.login_uid();
        record.netns = task.netns();
        record.mntns = task.mntns();
        record.class = u32::from(class);
        record.comm = bpf_get_current_comm().unwrap_or([0; 16]);
        arguments(task, &mut record.argv);
    });
    0
}

/// Copies the arguments from the process's own memory.
#[inline(always)]
fn arguments(task: Task, into: &mut Text<ARGV_BYTES>) {
    into.len = 0;
    into.truncated = 0;
    let Some((start, end)) = task.arguments() else { return };
    if end <= start {
        return;
    }
    let whole = end - start;
    let len = if whole >= ARGV_BYTES as u64 { ARGV_BYTES as u32 } else { (whole as u32) & (ARGV_BYTES as u32 - 1) };
    // SAFETY: `len` is at most the buffer's size; the helper checks the source.
    if unsafe { bpf_probe_read_user(into.bytes.as_mut_ptr().cast(), len, start as *const _) } == 0 {
        into.len = len;
        into.truncated = u32::from(whole > ARGV_BYTES as u64);
    }
}
