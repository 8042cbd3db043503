//! Execs of runtimes that start `runc exec` themselves and leave it running. runc's pipes name the streams; its child is the command.

use std::collections::BTreeMap;

use rustix::fs::FileType;

use super::{
    descriptors::{self, Held, OpenFile, Target},
    facts::process_seen,
    procfs::kernel_device,
    view::HostView,
};
use crate::model::{BootTime, Fact, FileId, Observation, ProcessInfo, RawText, Source, TaskKey, parse_runc_exec};

/// Children of one runtime that are described: a `runc exec` for each open session.
const MAX_CHILDREN: usize = 4096;
/// Descriptors of stdin, stdout and stderr.
const STDIO: std::ops::RangeInclusive<u32> = 0..=2;

/// The `runc exec`s for which this runtime waits, each with its pipes and its process.
pub(super) fn execs_of(view: &HostView, runtime: TaskKey, now: BootTime) -> Vec<Observation> {
    let mut facts = Vec::new();
    for (runc, info) in foreground(view, runtime) {
        facts.push(process_seen(now, runc, info));
        facts.extend(stdio_of(view, runc, now));
        if let Some((process, info)) = process_of(view, runc) {
            facts.push(process_seen(now, process, info));
        }
    }
    facts
}

/// Pipes of stdin, stdout and stderr of a `runc exec`.
pub(super) fn stdio_of(view: &HostView, runc: TaskKey, now: BootTime) -> Vec<Observation> {
    let seen = |(fd, inode, file)| {
        let fact = Fact::FifoHeld { path: pipe_name(inode), file, fd: Some(fd) };
        Observation::of(now, Source::Snapshot, runc, fact)
    };
    stdio(view, runc).into_iter().map(seen).collect()
}

/// True if the process is a `runc exec` that runs as long as its command.
pub(super) fn is_foreground(view: &HostView, runc: TaskKey) -> bool {
    view.proc.describe(runc.tgid).is_some_and(|(key, info)| key == runc && stays(&info))
}

/// Outputs of the `runc exec`s for which this runtime waits: runc's pid by inode of the pipe.
pub(super) fn pipes_read(view: &HostView, runtime: TaskKey) -> BTreeMap<u64, u32> {
    let runcs = foreground(view, runtime).into_iter();
    let outputs = runcs.flat_map(|(runc, _)| {
        let outputs = stdio(view, runc).into_iter().filter(|(fd, ..)| *fd != 0);
        outputs.map(move |(_, inode, _)| (inode, runc.tgid)).collect::<Vec<_>>()
    });
    outputs.collect()
}

/// Outputs of such `runc exec`s among the runtime's open files, by descriptor.
pub(super) fn pipes_held(view: &HostView, runtime: TaskKey, files: &[OpenFile]) -> Vec<(u32, Held)> {
    let inode = |target: &Target| if let Target::Pipe(inode) = target { Some(*inode) } else { None };
    if !files.iter().any(|file| inode(&file.target).is_some()) {
        return Vec::new();
    }
    let read = pipes_read(view, runtime);
    let held = files.iter().filter_map(|file| {
        let inode = inode(&file.target)?;
        Some((file.fd, Held::Pipe { inode, runc: *read.get(&inode)? }))
    });
    held.collect()
}

/// The `runc exec`s for which a runtime waits.
fn foreground(view: &HostView, runtime: TaskKey) -> Vec<(TaskKey, ProcessInfo)> {
    let own = view.proc.namespace(runtime.tgid, "mnt");
    // A child in another mount namespace is a container's process, whatever its arguments claim.
    let outside = |pid: &u32| own.is_some() && view.proc.namespace(*pid, "mnt") == own;
    let children = view.proc.children(runtime.tgid).into_iter().take(MAX_CHILDREN);
    let described = children.filter(outside).filter_map(|pid| view.proc.describe(pid));
    described.filter(|(_, info)| info.parent == Some(runtime) && stays(info)).collect()
}

/// Descriptor, inode and file of each pipe among stdin, stdout and stderr.
fn stdio(view: &HostView, runc: TaskKey) -> Vec<(u32, u64, FileId)> {
    let pipe = |fd: u32| {
        let Some(Target::Pipe(inode)) = descriptors::target_of(&view.proc, runc.tgid, fd) else { return None };
        let stat = descriptors::stat_of(&view.proc, runc.tgid, fd)?;
        let is_it = FileType::from_raw_mode(stat.st_mode).is_fifo() && stat.st_ino == inode;
        is_it.then(|| (fd, inode, FileId::new(kernel_device(stat.st_dev), inode)))
    };
    let pipes: Vec<_> = STDIO.filter_map(pipe).collect();
    // Check the identity last: a pid that changed hands in between is noticed.
    if view.proc.is_still(runc) { pipes } else { Vec::new() }
}

/// The only child of runc in another mount namespace; `None` if there are several.
fn process_of(view: &HostView, runc: TaskKey) -> Option<(TaskKey, ProcessInfo)> {
    let own = view.proc.namespace(runc.tgid, "mnt")?;
    let inside = |pid: &u32| view.proc.namespace(*pid, "mnt").is_some_and(|mntns| mntns != own);
    let mut children = view.proc.children(runc.tgid).into_iter().filter(inside);
    let (child, None) = (children.next()?, children.next()) else { return None };
    view.proc.describe(child).filter(|(_, info)| info.parent == Some(runc))
}

/// Name of a pipe in /proc.
pub(super) fn pipe_name(inode: u64) -> RawText {
    RawText::from(format!("pipe:[{inode}]").as_str())
}

fn stays(info: &ProcessInfo) -> bool {
    parse_runc_exec(&info.argv).is_some_and(|runc| runc.exec.is_none() && !runc.detached)
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsFd,
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::source::snapshot::{procfs::Proc, view::Options};

    const NOW: BootTime = BootTime(7);

    /// A child that waits for its input, with these words among its arguments.
    fn child(words: &str, stdin: Stdio) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "echo; read line"]).args(words.split(' ')).stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the child runs its own program: it writes a line then.
    fn started(child: &mut Child) {
        use std::io::Read as _;
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn foreground_runc_is_reported_with_its_pipes() {
        let id = "0123456789abcdef".repeat(4);
        let mut stays = child(&format!("runc exec --process /tmp/p {id}"), Stdio::piped());
        let mut ends = child(&format!("runc exec --process /tmp/p --detach {id}"), Stdio::piped());
        started(&mut stays);
        started(&mut ends);
        let view = HostView::new(Options::default());
        let own = Proc::new("/proc").key(std::process::id()).unwrap();
        let facts = execs_of(&view, own, NOW);
        let of =
            |pid: u32| facts.iter().filter(|seen| seen.task.is_some_and(|task| task.tgid == pid)).collect::<Vec<_>>();
        let reported = of(stays.id());
        assert!(matches!(&reported[0].fact, Fact::ProcessSeen(info) if info.parent == Some(own)));
        let inode = |file: &dyn AsFd| rustix::fs::fstat(file.as_fd()).unwrap().st_ino;
        let pipes = [(0, inode(stays.stdin.as_ref().unwrap())), (1, inode(stays.stdout.as_ref().unwrap()))];
        let held: Vec<_> = reported[1..]
            .iter()
            .map(|seen| {
                let Fact::FifoHeld { path, file, fd } = &seen.fact else { panic!("{seen:?}") };
                assert_eq!(*path, pipe_name(file.inode));
                (fd.unwrap(), file.inode)
            })
            .collect();
        assert_eq!(held, pipes, "stderr is /dev/null, and no pipe");
        assert!(of(ends.id()).is_empty(), "a detached runc ends at once");
        let read = pipes_read(&view, own);
        assert_eq!(read.get(&pipes[1].1), Some(&stays.id()));
        assert!(!read.contains_key(&pipes[0].1), "the runtime writes stdin");
        end(stays);
        end(ends);
    }
}
