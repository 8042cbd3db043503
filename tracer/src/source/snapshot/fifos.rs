//! Execs that are older than the tracer. The FIFOs that runtime and shim have open name the execs; the shim's pid files name their
//! processes.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::FileType;

use super::{
    container::Root,
    descriptors::{self, Held, Target},
    facts::process_seen,
    foreground::pipes_held,
    procfs::{DELETED, PTY_SLAVES, kernel_device},
    roots::each_root,
    view::HostView,
};
use crate::model::{
    BootTime, Fact, FileId, FileKind, Observation, ProcessInfo, RawText, Source, TaskKey, parse_fifo_path,
};

/// Seconds since 1970, and nanoseconds, as in stat(2).
type WallTime = (i64, u64);

/// FIFOs of execs and containers that a process has open.
pub(super) fn held_by(view: &HostView, key: TaskKey, now: BootTime) -> Vec<Observation> {
    let fifos: BTreeMap<RawText, FileId> =
        exec_fifos(view, key).into_iter().map(|(_, path, file, _)| (path, file)).collect();
    let seen = |(path, file)| Observation::of(now, Source::Snapshot, key, Fact::FifoHeld { path, file, fd: None });
    fifos.into_iter().map(seen).collect()
}

/// Time of the last write to each FIFO of an exec that a process has open.
pub(super) fn last_used(view: &HostView, key: TaskKey, now: BootTime) -> Vec<Observation> {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let wall = (clock.tv_sec, u64::try_from(clock.tv_nsec).unwrap_or(0));
    let mut facts = BTreeMap::new();
    for (_, path, file, written) in exec_fifos(view, key) {
        if let Some(ago_ms) = millis_between(written, wall) {
            facts.insert(file, Fact::FifoUsed { path, file, ago_ms });
        }
    }
    facts.into_values().map(|fact| Observation::new(now, Source::Snapshot, fact)).collect()
}

/// FIFOs of execs and containers that a process has open: descriptor, path, file, and time of the last write.
fn exec_fifos(view: &HostView, key: TaskKey) -> Vec<(u32, RawText, FileId, WallTime)> {
    let mut fifos = Vec::new();
    for file in view.files_of(key).iter().flat_map(|files| files.iter()) {
        let Target::Path(path) = &file.target else { continue };
        let path = path.as_bytes().strip_suffix(DELETED).map_or_else(|| path.clone(), RawText::from);
        if path.as_str().and_then(parse_fifo_path).is_none() {
            continue;
        }
        let Some(stat) = descriptors::stat_of(&view.proc, key.tgid, file.fd) else { continue };
        if FileType::from_raw_mode(stat.st_mode).is_fifo() {
            let id = FileId::new(kernel_device(stat.st_dev), stat.st_ino);
            fifos.push((file.fd, path, id, (stat.st_mtime, stat.st_mtime_nsec)));
        }
    }
    // Check the identity last: a pid that changed hands in between is noticed.
    if view.proc.is_still(key) { fifos } else { Vec::new() }
}

/// Open files of a process that runtimes wait for, by descriptor.
pub(super) fn awaitable(view: &HostView, key: TaskKey) -> BTreeMap<u32, Held> {
    let mut held: BTreeMap<u32, Held> =
        exec_fifos(view, key).into_iter().map(|(fd, path, file, _)| (fd, Held::Fifo(path, file.inode))).collect();
    let files = view.files_of(key).unwrap_or_default();
    held.extend(files.iter().filter_map(|file| match file.target {
        Target::Epoll => Some((file.fd, Held::Epoll)),
        Target::Socket(inode) => Some((file.fd, Held::Socket(inode))),
        Target::Pipe(_) | Target::Path(_) | Target::Other => None,
    }));
    held.extend(pipes_held(view, key, &files));
    held
}

/// Pid files of the execs whose FIFOs this shim has open, with their processes. The files lie in the containers' folders, beside
/// the shim's working directory (containerd: pkg/process, `<exec>.pid`).
pub(super) fn execs_of(view: &HostView, shim: TaskKey, now: BootTime) -> Vec<Observation> {
    let Some(folder) = view.proc.working_directory(shim.tgid) else { return Vec::new() };
    let Some(state) = folder.parent().and_then(|state| state.to_str()).map(str::to_owned) else {
        return Vec::new();
    };
    let mut execs: Vec<(String, String)> = exec_fifos(view, shim)
        .into_iter()
        .filter_map(|(_, path, ..)| parse_fifo_path(path.as_str()?))
        .filter(|fifo| fifo.exec != fifo.container)
        .map(|fifo| (fifo.container, fifo.exec))
        .collect();
    execs.sort_unstable();
    execs.dedup();
    // Check the identity last: a pid that changed hands in between is noticed.
    if execs.is_empty() || !view.proc.is_still(shim) {
        return Vec::new();
    }
    let roots: Vec<Root> = each_root(view).collect();
    let mut facts = inputs_of(view, shim, &roots, now);
    for (container, exec) in execs {
        let path = format!("{state}/{container}/{exec}.pid");
        let Some(pid) = roots.iter().find_map(|root| root.pid_file(&path)) else { continue };
        if let Some((key, info)) = view.proc.describe(pid) {
            let stdin = stdin_of(view, key);
            facts.push(process_seen(now, key, ProcessInfo { stdin, ..info }));
        }
        let fact = Fact::PidFile { path: path.as_str().into(), pid: Some(pid) };
        facts.push(Observation::of(now, Source::Snapshot, shim, fact));
    }
    facts
}

/// Kind of file behind descriptor 0.
fn stdin_of(view: &HostView, key: TaskKey) -> Option<FileKind> {
    let stat = descriptors::stat_of(&view.proc, key.tgid, 0)?;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    let kind = if file_type.is_fifo() {
        FileKind::Pipe
    } else if file_type.is_socket() {
        FileKind::Socket
    } else if file_type.is_char_device() && PTY_SLAVES.contains(&rustix::fs::major(stat.st_rdev)) {
        FileKind::Pty
    } else {
        FileKind::Other
    };
    // Check the identity last: a pid that changed hands in between is noticed.
    view.proc.is_still(key).then_some(kind)
}

/// FIFOs for the input of the shim's execs that no process has open: both ends close at the client's end of file. Such a FIFO
/// distinguishes an exec from a probe.
fn inputs_of(view: &HostView, shim: TaskKey, roots: &[Root], now: BootTime) -> Vec<Observation> {
    let held: Vec<RawText> = exec_fifos(view, shim).into_iter().map(|(_, path, ..)| path).collect();
    let input = |path: &RawText| Some(format!("{}-stdin", path.as_str()?.rsplit_once('-')?.0));
    let inputs: BTreeSet<String> = held.iter().filter_map(input).collect();
    let left = inputs.into_iter().filter(|path| !held.iter().any(|one| one.as_str() == Some(path)));
    let found = left.filter_map(|path| Some((roots.iter().find_map(|root| root.fifo(&path))?, path)));
    let seen = |(file, path): (FileId, String)| Fact::FifoHeld { path: path.as_str().into(), file, fd: None };
    found.map(|one| Observation::of(now, Source::Snapshot, shim, seen(one))).collect()
}

/// Milliseconds between two times; `None` if the clock was set back in between.
fn millis_between((seconds, nanos): WallTime, (until, until_nanos): WallTime) -> Option<u64> {
    let seconds = u64::try_from(until.checked_sub(seconds)?).ok()?;
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(until_nanos)?.checked_sub(nanos)?;
    Some(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_set_back_gives_no_age() {
        assert_eq!(millis_between((10, 900_000_000), (12, 100_000_000)), Some(1_200));
        assert_eq!(millis_between((10, 5), (10, 5)), Some(0));
        assert_eq!(millis_between((12, 0), (10, 0)), None);
        assert_eq!(millis_between((10, 5), (10, 4)), None);
        assert_eq!(millis_between((i64::MIN, 0), (i64::MAX, 0)), None);
        assert_eq!(millis_between((0, 0), (i64::MAX, 0)), None);
    }
}
