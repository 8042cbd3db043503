//! The system calls that the process may make from now on.
//!
//! The list covers glibc and x86-64, arm64. A missing call shows in the tests, which run with [`Denied::Kill`].

use std::{collections::BTreeMap, error::Error, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

/// Consequence of a system call that is not on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// EPERM, and a line in the kernel's log (`type=1326`): a forgotten call must not end a trace.
    Error,
    /// The process is killed. For tests, which find forgotten calls.
    Kill,
}

/// Groups of system calls besides those that every command needs.
#[derive(Clone, Copy)]
pub(super) struct Calls {
    /// BPF, perf events and sock_diag.
    pub(super) looks: bool,
    /// Child processes are ended and awaited.
    pub(super) has_children: bool,
    /// Connections to other programs.
    pub(super) net: Net,
}

/// Connections of a live command to other programs. The default permits none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// Connections are accepted, on sockets that listen already.
    pub serves: bool,
    /// TCP connections are made.
    pub connects: bool,
}

/// Calls of every command, and of its libraries and threads.
const COMMON: &[i64] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, signals and the end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Users, limits, time, names.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_setpriority,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Files.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fchmod,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // Connected sockets: stdout may be one, and signals arrive through a pair.
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// Calls that only x86-64 has. glibc prefers some of them.
#[cfg(target_arch = "x86_64")]
const OF_ARCHITECTURE: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_ARCHITECTURE: &[i64] = &[];

/// Calls of a live command: maps, programs, iterators, tracepoints, netlink.
const LOOKING: &[i64] = &[
    libc::SYS_bind,
    libc::SYS_bpf,
    libc::SYS_connect,
    libc::SYS_perf_event_open,
    // Queues of pipes and terminals are read on a copy of the holder's descriptor.
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
];
/// Calls that accept connections. A socket that listens by now needs no other.
const SERVING: &[i64] = &[libc::SYS_accept4];
/// Calls that end and await child processes.
const CHILDREN: &[i64] = &[libc::SYS_kill, libc::SYS_pidfd_send_signal, libc::SYS_wait4, libc::SYS_waitid];

/// include/uapi/linux/prctl.h
const PR_GET_AUXV: i32 = 0x4155_5856;

/// Bits of the type of a socket, without flags (include/linux/net.h: SOCK_TYPE_MASK).
const SOCKET_TYPES: i32 = 0xf;

/// Flags of clone(2) that make a namespace.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Binds all threads of this process to these calls.
///
/// # Errors
/// When the kernel takes no filter, or the filter cannot be built for this architecture.
pub(super) fn apply(calls: Calls, denied: Denied) -> Result<(), Box<dyn Error>> {
    // A filter sees numbers, not the structure that clone3(2) points to. Without clone3, glibc uses clone(2), whose flags are a number.
    let no_clone3 = [(libc::SYS_clone3, Vec::new())].into();
    let enosys = SeccompAction::Errno(u32::try_from(libc::ENOSYS)?);
    // Without a line in the log: every new thread tries clone3 first.
    apply_filter_all_threads(&filter(no_clone3, SeccompAction::Allow, enosys)?)?;
    let otherwise = match denied {
        Denied::Error => SeccompAction::Errno(u32::try_from(libc::EPERM)?),
        Denied::Kill => SeccompAction::KillProcess,
    };
    install(&filter(allowed(calls)?, otherwise, SeccompAction::Allow)?)
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Box<dyn Error>> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()?)
}

/// The permitted calls; one without rules is permitted with every argument.
fn allowed(calls: Calls) -> Result<BTreeMap<i64, Vec<SeccompRule>>, Box<dyn Error>> {
    let when = |index, op, value: i32| SeccompCondition::new(index, Width::Dword, op, u64::from(value.cast_unsigned()));
    let only = |conditions| SeccompRule::new(conditions).map(|rule| vec![rule]);
    let masked = |mask: i32| Op::MaskedEq(u64::from(mask.cast_unsigned()));
    let groups = [COMMON, OF_ARCHITECTURE].into_iter();
    let groups = groups.chain(calls.looks.then_some(LOOKING)).chain(calls.has_children.then_some(CHILDREN));
    let groups = groups.chain(calls.net.serves.then_some(SERVING));
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = groups.flatten().map(|call| (*call, Vec::new())).collect();
    allowed.insert(libc::SYS_clone3, Vec::new());
    // Threads only.
    let thread = vec![when(0, masked(libc::CLONE_THREAD | NAMESPACES), libc::CLONE_THREAD)?];
    allowed.insert(libc::SYS_clone, only(thread)?);
    // Terminals and perf events, but no typing into a terminal.
    #[expect(clippy::cast_possible_truncation, reason = "both numbers have 16 bits")]
    let typing = [libc::TIOCSTI as i32, libc::TIOCLINUX as i32];
    allowed.insert(libc::SYS_ioctl, only(vec![when(1, Op::Ne, typing[0])?, when(1, Op::Ne, typing[1])?])?);
    // The name of a thread and of its memory, and the kernel's parameters of the program (rustix reads them).
    let names = [libc::PR_SET_NAME, libc::PR_SET_VMA, PR_GET_AUXV]
        .map(|option| when(0, Op::Eq, option).and_then(|one| SeccompRule::new(vec![one])));
    allowed.insert(libc::SYS_prctl, names.into_iter().collect::<Result<_, _>>()?);
    allowed.insert(libc::SYS_socketpair, only(vec![when(0, Op::Eq, libc::AF_UNIX)?])?);
    // Limits may be read, and raised for maps on old kernels; of this process only.
    allowed.insert(libc::SYS_prlimit64, only(vec![when(0, Op::Eq, 0)?])?);
    if calls.net.connects {
        allowed.insert(libc::SYS_connect, Vec::new());
    }
    if calls.looks || calls.net.connects {
        let mut sockets = if calls.looks { only(vec![when(0, Op::Eq, libc::AF_NETLINK)?])? } else { Vec::new() };
        for family in [libc::AF_INET, libc::AF_INET6].into_iter().filter(|_| calls.net.connects) {
            let stream = when(1, masked(SOCKET_TYPES), libc::SOCK_STREAM)?;
            sockets.extend(only(vec![when(0, Op::Eq, family)?, stream])?);
        }
        allowed.insert(libc::SYS_socket, sockets);
    }
    Ok(allowed)
}

/// Installs a filter for all threads. Denied calls are logged where the kernel can log them.
pub(super) fn install(program: &BpfProgram) -> Result<(), Box<dyn Error>> {
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_LOG;
    let head = libc::sock_fprog { len: u16::try_from(program.len())?, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `head` and the instructions that it points to live until the call returns; the kernel copies both and writes neither.
    // Instructions of seccompiler and libc have the same layout, the kernel's.
    let outcome = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const head) };
    match outcome {
        0 => Ok(()),
        // Linux before 4.14 cannot log.
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) => Ok(apply_filter_all_threads(program)?),
        -1 => Err(io::Error::last_os_error().into()),
        thread => Err(format!("thread {thread} has a filter of its own").into()),
    }
}

/// Binds the process to exactly these calls. A socket may be a netlink socket only.
pub(super) fn apply_exactly(calls: &[i64]) -> Result<(), Box<dyn Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let netlink = SeccompCondition::new(0, Width::Dword, Op::Eq, u64::from(libc::AF_NETLINK.cast_unsigned()))?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![netlink])?]);
    install(&filter(rules, SeccompAction::KillProcess, SeccompAction::Allow)?)
}
