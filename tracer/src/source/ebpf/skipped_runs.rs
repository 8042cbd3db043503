//! Runs of programs that the kernel skipped.
//!
//! The kernel skips a run that would interrupt a run on the same CPU: of the same program, or at the tracepoint of a system
//! call, of any program at a tracepoint (kernel/trace/bpf_trace.c:`__bpf_trace_run` and `trace_call_bpf`,
//! kernel/bpf/trampoline.c:`__bpf_prog_enter_recur`). The act leaves no record. The kernel counts such runs since Linux 5.12
//! and shows the count in the fdinfo of the program's descriptor (kernel/bpf/syscall.c:`bpf_prog_show_fdinfo`).

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::FileExt as _,
    },
};

use aya::programs::Program;

/// The field of fdinfo.
const FIELD: &str = "recursion_misses:";
/// A program's fdinfo has about 300 bytes.
const MAX_BYTES: usize = 2048;

/// The fdinfo of each loaded program.
#[derive(Debug, Default)]
pub(super) struct SkippedRuns(Vec<File>);

impl SkippedRuns {
    /// Opens the fdinfo of the loaded ones of these programs. A program without a readable fdinfo is left out: the count is
    /// then too low, as it is on older kernels.
    pub(super) fn of<'a>(programs: impl Iterator<Item = &'a Program>) -> Self {
        let opened = programs.filter_map(|program| {
            let number = program.fd().ok()?.as_fd().as_raw_fd();
            File::open(format!("/proc/self/fdinfo/{number}")).ok()
        });
        Self(opened.collect())
    }

    /// Number of skipped runs since the programs were loaded; `None` if the kernel does not show it.
    pub(super) fn count(&self) -> Option<u64> {
        self.0.iter().filter_map(skipped).reduce(u64::saturating_add)
    }
}

fn skipped(fdinfo: &File) -> Option<u64> {
    let mut bytes = [0; MAX_BYTES];
    let length = fdinfo.read_at(&mut bytes, 0).ok()?;
    parse(std::str::from_utf8(bytes.get(..length)?).ok()?)
}

fn parse(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix(FIELD))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_read_from_fdinfo() {
        let fdinfo = "pos:\t0\nprog_type:\t26\nrun_cnt:\t5\nrecursion_misses:\t17\nverified_insns:\t1070\n";
        assert_eq!(parse(fdinfo), Some(17));
        assert_eq!(parse("pos:\t0\nprog_type:\t26\nrun_cnt:\t5\n"), None, "Linux before 5.12");
        assert_eq!(parse("recursion_misses:\t-1\n"), None);
    }
}
