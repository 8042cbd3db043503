//! Execs of runtimes that start `runc exec` themselves and leave it running: runc's pipes name the streams, its child is the
//! command.

use std::collections::BTreeMap;

use rustix::fs::FileType;

use super::{
    Snapshot,
    descriptors::{Held, Target},
    process_seen,
    procfs::kernel_device,
};
use crate::model::{BootTime, Fact, FileId, Observation, ProcessInfo, RawText, Source, TaskKey, parse_runc_exec};

/// Children of one runtime that are looked at: a `runc exec` for each open session.
const MAX_CHILDREN: usize = 4096;
/// Descriptors of stdin, stdout and stderr.
const STDIO: std::ops::RangeInclusive<u32> = 0..=2;

impl Snapshot {
    /// The `runc exec`s that this runtime waits for: each with its pipes and its process.
    pub(super) fn foreground_of(&self, runtime: TaskKey, now: BootTime) -> Vec<Observation> {
        let mut facts = Vec::new();
        for (runc, info) in self.foreground(runtime) {
            facts.push(process_seen(now, runc, info));
            facts.extend(self.stdio_of(runc, now));
            if let Some((process, info)) = self.process_of(runc) {
                facts.push(process_seen(now, process, info));
            }
        }
        facts
    }

    /// The pipes of stdin, stdout and stderr of that very process.
    pub(super) fn stdio_of(&self, runc: TaskKey, now: BootTime) -> Vec<Observation> {
        let seen = |(fd, inode, file)| {
            let fact = Fact::FifoHeld { path: pipe_name(inode), file, fd: Some(fd) };
            Observation::of(now, Source::Snapshot, runc, fact)
        };
        self.stdio(runc).into_iter().map(seen).collect()
    }

    /// Whether that is a `runc exec` which stays as long as its process does.
    pub(super) fn is_foreground(&self, runc: TaskKey) -> bool {
        self.proc.describe(runc.tgid).is_some_and(|(key, info)| key == runc && stays(&info))
    }

    /// Pipes that this runtime reads for the `runc exec`s that it waits for, by inode, with runc's pid.
    pub(super) fn pipes_read(&self, runtime: TaskKey) -> BTreeMap<u64, u32> {
        let runcs = self.foreground(runtime).into_iter();
        let outputs = runcs.flat_map(|(runc, _)| {
            let outputs = self.stdio(runc).into_iter().filter(|(fd, ..)| *fd != 0);
            outputs.map(move |(_, inode, _)| (inode, runc.tgid)).collect::<Vec<_>>()
        });
        outputs.collect()
    }

    /// What of `files` the runtime reads for a `runc exec` that it waits for.
    pub(super) fn pipes_held(&self, runtime: TaskKey, files: &[super::OpenFile]) -> Vec<(u32, Held)> {
        let inode = |target: &Target| if let Target::Pipe(inode) = target { Some(*inode) } else { None };
        if !files.iter().any(|file| inode(&file.target).is_some()) {
            return Vec::new();
        }
        let read = self.pipes_read(runtime);
        let held = files.iter().filter_map(|file| {
            let inode = inode(&file.target)?;
            Some((file.fd, Held::Pipe { inode, runc: *read.get(&inode)? }))
        });
        held.collect()
    }

    fn foreground(&self, runtime: TaskKey) -> Vec<(TaskKey, ProcessInfo)> {
        let own = self.proc.namespace(runtime.tgid, "mnt");
        // In another mount namespace it is a container's, whatever its arguments say.
        let outside = |pid: &u32| own.is_some() && self.proc.namespace(*pid, "mnt") == own;
        let children = self.proc.children(runtime.tgid).into_iter().take(MAX_CHILDREN);
        let described = children.filter(outside).filter_map(|pid| self.proc.describe(pid));
        described.filter(|(_, info)| info.parent == Some(runtime) && stays(info)).collect()
    }

    /// Descriptor, inode and file of each pipe.
    fn stdio(&self, runc: TaskKey) -> Vec<(u32, u64, FileId)> {
        let pipe = |fd: u32| {
            let Some(Target::Pipe(inode)) = self.proc.target_of(runc.tgid, fd) else { return None };
            let stat = self.proc.stat_of(runc.tgid, fd)?;
            let is_it = FileType::from_raw_mode(stat.st_mode).is_fifo() && stat.st_ino == inode;
            is_it.then(|| (fd, inode, FileId::new(kernel_device(stat.st_dev), inode)))
        };
        let pipes: Vec<_> = STDIO.filter_map(pipe).collect();
        // Asked after: a pid that changed hands in between is noticed.
        if self.proc.is_still(runc) { pipes } else { Vec::new() }
    }

    /// The one child of runc that is in another mount namespace.
    fn process_of(&self, runc: TaskKey) -> Option<(TaskKey, ProcessInfo)> {
        let own = self.proc.namespace(runc.tgid, "mnt")?;
        let inside = |pid: &u32| self.proc.namespace(*pid, "mnt").is_some_and(|mntns| mntns != own);
        let mut children = self.proc.children(runc.tgid).into_iter().filter(inside);
        let (child, None) = (children.next()?, children.next()) else { return None };
        self.proc.describe(child).filter(|(_, info)| info.parent == Some(runc))
    }
}

/// The name that /proc gives a pipe.
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
    use crate::source::snapshot::{Options, procfs::Proc};

    const NOW: BootTime = BootTime(7);

    /// A child that waits for its input, with these words behind it.
    fn child(words: &str, stdin: Stdio) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "echo; read line"]).args(words.split(' ')).stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// It runs its program, and not a copy of this one, once it has written.
    fn started(child: &mut Child) {
        use std::io::Read as _;
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn runc_that_stays_is_seen_with_its_pipes() {
        let id = "0123456789abcdef".repeat(4);
        let mut stays = child(&format!("runc exec --process /tmp/p {id}"), Stdio::piped());
        let mut ends = child(&format!("runc exec --process /tmp/p --detach {id}"), Stdio::piped());
        started(&mut stays);
        started(&mut ends);
        let snapshot = Snapshot::new(Options::default());
        let own = Proc::new("/proc").key(std::process::id()).unwrap();
        let facts = snapshot.foreground_of(own, NOW);
        let of =
            |pid: u32| facts.iter().filter(|seen| seen.task.is_some_and(|task| task.tgid == pid)).collect::<Vec<_>>();
        let told = of(stays.id());
        assert!(matches!(&told[0].fact, Fact::ProcessSeen(info) if info.parent == Some(own)));
        let inode = |file: &dyn AsFd| rustix::fs::fstat(file.as_fd()).unwrap().st_ino;
        let pipes = [(0, inode(stays.stdin.as_ref().unwrap())), (1, inode(stays.stdout.as_ref().unwrap()))];
        let held: Vec<_> = told[1..]
            .iter()
            .map(|seen| {
                let Fact::FifoHeld { path, file, fd } = &seen.fact else { panic!("{seen:?}") };
                assert_eq!(*path, pipe_name(file.inode));
                (fd.unwrap(), file.inode)
            })
            .collect();
        assert_eq!(held, pipes, "and no stderr: that is /dev/null");
        assert!(of(ends.id()).is_empty(), "it would be gone as soon as its process runs");
        let read = snapshot.pipes_read(own);
        assert_eq!(read.get(&pipes[1].1), Some(&stays.id()));
        assert!(!read.contains_key(&pipes[0].1), "what a runtime writes");
        end(stays);
        end(ends);
    }
}
