//! Numbers of a process and its threads.

use std::{fs, os::unix::ffi::OsStrExt};

use super::super::procfs::{Proc, after, number, parse_stat};
use crate::model::{Call, Depth, ProcessMeasure, RawText, ThreadMeasure};

/// Threads of one process that are measured. A shim has about ten, runc about six.
const MAX_THREADS: usize = 64;
/// Functions of a kernel stack. The kernel shows no more (fs/proc/base.c: MAX_STACK_TRACE_DEPTH).
const MAX_FRAMES: usize = 64;
/// System calls with a descriptor as first argument: bytes pass through it, or a thread waits on it.
const ABOUT_A_DESCRIPTOR: [&str; 24] = [
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "recvfrom",
    "sendto",
    "recvmsg",
    "sendmsg",
    "splice",
    "sendfile",
    "accept",
    "accept4",
    "connect",
    "ioctl",
    "epoll_wait",
    "epoll_pwait",
    "fsync",
    "fdatasync",
    "flock",
    "close",
];

/// Numbers of a process, without those of its files and its cgroup. `None` if the process is gone.
pub(super) fn measure(proc: &Proc, pid: u32, depth: Depth) -> Option<ProcessMeasure> {
    let stat = parse_stat(&proc.read(pid, "stat")?)?;
    let threads = match depth {
        Depth::Brief => {
            vec![ThreadMeasure { tid: pid, state: stat.state, call: None, switches: None, stack: Vec::new() }]
        }
        Depth::Whole => threads(proc, pid),
    };
    Some(ProcessMeasure {
        state: stat.state,
        parent: Some(stat.parent).filter(|parent| *parent != 0),
        user_ticks: stat.user_ticks,
        system_ticks: stat.system_ticks,
        resident: proc.read(pid, "statm").and_then(|text| resident(&text)),
        descriptors: None,
        descriptors_max: proc.read(pid, "limits").and_then(|text| soft_limit(&text, b"Max open files")),
        terminals: None,
        threads,
        thread_count: stat.threads,
        foreground: stat.foreground,
        group: Some(stat.group),
        exe: proc.exe(pid),
        pidns: proc.namespace(pid, "pid"),
        first_lives: None,
        cgroup: None,
    })
}

/// Numbers of the threads, the first thread first.
fn threads(proc: &Proc, pid: u32) -> Vec<ThreadMeasure> {
    let entries = fs::read_dir(proc.path(pid, "task")).into_iter().flatten().flatten();
    let mut tids: Vec<u32> =
        entries.filter_map(|entry| number(entry.file_name().as_bytes())).take(MAX_THREADS).collect();
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    tids.into_iter().filter_map(|tid| thread(proc, pid, tid)).collect()
}

fn thread(proc: &Proc, pid: u32, tid: u32) -> Option<ThreadMeasure> {
    let file = |name: &str| proc.read(pid, &format!("task/{tid}/{name}"));
    let state = parse_stat(&file("stat")?)?.state;
    Some(ThreadMeasure {
        tid,
        state,
        call: file("syscall").and_then(|text| parse_call(&text)),
        switches: file("status").and_then(|text| number(after(&text, b"voluntary_ctxt_switches:")?)),
        stack: proc.stack(pid, tid).map(|text| parse_stack(&text)).unwrap_or_default(),
    })
}

/// Resident memory in bytes. The second number of `statm` counts pages.
fn resident(text: &[u8]) -> Option<u64> {
    let pages: u64 = number(text.split(|byte| *byte == b' ').nth(1)?)?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

/// `Max open files            1024                 524288               files`
fn soft_limit(text: &[u8], name: &[u8]) -> Option<u64> {
    number(after(text, name)?.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?)
}

/// `0 0x3 0x7ffd 0x1000 0x0 0x0 0x0 0x7ffd 0x7f01`: number, arguments, stack and instruction pointer. `running`, or -1 outside of
/// system calls (fs/proc/base.c: `proc_pid_syscall`).
fn parse_call(text: &[u8]) -> Option<Call> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let number: usize = words.next()?.parse().ok()?;
    let name = syscalls::Sysno::new(number)?.name();
    let first = words.next().and_then(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    // A descriptor is an int: the upper half of the register is undefined.
    let fd = first.filter(|_| ABOUT_A_DESCRIPTOR.contains(&name)).and_then(|fd| u32::try_from(fd & 0xffff_ffff).ok());
    Some(Call { name: name.to_owned(), fd })
}

/// Functions of a stack: lines such as `[<0>] anon_pipe_write+0x2c4/0x6c0`.
fn parse_stack(text: &[u8]) -> Vec<RawText> {
    let function = |line: &[u8]| {
        let name = line.split(|byte| *byte == b' ').nth(1)?;
        let end = name.iter().position(|byte| *byte == b'+').unwrap_or(name.len());
        name.get(..end).filter(|name| !name.is_empty()).map(RawText::from)
    };
    text.split(|byte| *byte == b'\n').filter_map(function).take(MAX_FRAMES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_are_read_behind_any_name() {
        let line = b"7 (a) R 1 (b) T 5 6 7 34816 8 4194304 1 2 3 4 11 12 13 14 20 0 3 0 99 1 2";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.foreground), ('T', 5, 6, Some(8)));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.threads), (11, 12, 3));
        let without = b"7 (x) S 5 6 7 0 -1 4194304 1 2 3 4 11 12 13 14 20 0 3 0 99";
        assert_eq!(parse_stat(without).unwrap().foreground, None);
        for broken in [&b""[..], b"7 x", b"7 (x)", b"7 (x) S 1"] {
            assert!(parse_stat(broken).is_none());
        }
    }

    #[test]
    fn system_call_names_its_descriptor() {
        let read = syscalls::Sysno::read.id();
        let call = parse_call(format!("{read} 0xffffffff00000003 0x7ffd 0x10 0x0 0x0 0x0 0x7f 0x7f\n").as_bytes());
        assert_eq!(call, Some(Call { name: "read".to_owned(), fd: Some(3) }));
        let nap = syscalls::Sysno::clock_nanosleep.id();
        assert_eq!(parse_call(format!("{nap} 0x0 0x0\n").as_bytes()).unwrap().fd, None);
        for outside in ["running\n", "-1 0x7f 0x7f\n", "99999 0x0\n", "", "x"] {
            assert_eq!(parse_call(outside.as_bytes()), None, "{outside}");
        }
    }

    #[test]
    fn stack_lists_its_functions() {
        let text = b"[<0>] anon_pipe_write+0x2c4/0x6c0\n[<0>] vfs_write+0x1/0x2\n[<0>] do_syscall_64\n\n";
        let names: Vec<String> = parse_stack(text).iter().map(|name| name.to_text().into_owned()).collect();
        assert_eq!(names, ["anon_pipe_write", "vfs_write", "do_syscall_64"]);
    }

    #[test]
    fn limits_and_sizes_are_numbers_or_none() {
        let limits = b"Limit  Soft\nMax open files            1024                 524288               files\n";
        assert_eq!(soft_limit(limits, b"Max open files"), Some(1024));
        assert_eq!(soft_limit(b"Max open files  unlimited\n", b"Max open files"), None);
        assert_eq!(resident(b"100 2 3"), Some(2 * rustix::param::page_size() as u64));
        assert_eq!(resident(b"100"), None);
    }

    #[test]
    fn own_process_is_measured() {
        let measured = measure(&Proc::new("/proc"), std::process::id(), Depth::Whole).unwrap();
        assert!(measured.thread_count >= 1 && !measured.threads.is_empty());
        assert_eq!(measured.threads[0].tid, std::process::id());
        assert!(measured.resident.unwrap() > 0);
        assert!(measure(&Proc::new("/proc"), u32::MAX, Depth::Whole).is_none());
    }
}
