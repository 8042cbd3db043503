//! Life of processes: fork, exec, exit.

use crate::{Actor, Header, Text, header::record};

/// Longest argv that is kept: runc's own, with two 64-digit ids, is about 500 bytes.
pub const ARGV_BYTES: usize = 1024;

/// A daemon, or a process below one, forked. The header names the forking process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// See [`Header`].
    pub header: Header,
    /// The new process.
    pub child_tgid: u32,
    /// Zero.
    pub reserved: u32,
    /// `start_boottime` of the new process, in nanoseconds.
    pub child_start_ns: u64,
    /// Actor that called fork, in a daemon; zero in a process below it.
    pub actor: Actor,
    /// Cookie of the socket on which the same actor received last; 0 for none.
    pub inbound_cookie: u64,
    /// Inode of the same socket.
    pub inbound_inode: u64,
}
record!(Fork = size_of::<Header>() + 4 + 4 + 8 + size_of::<Actor>() + 16);

/// Description of a process, after an execve or when the process was added to the path.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// See [`Header`].
    pub header: Header,
    /// `start_boottime` of the parent, in nanoseconds.
    pub parent_start_ns: u64,
    /// Inode of the process's cgroup in the unified hierarchy (`bpf_get_current_cgroup_id`).
    pub cgroup_id: u64,
    /// `real_parent->tgid`.
    pub parent_tgid: u32,
    /// User in the initial user namespace.
    pub uid: u32,
    /// Login user (audit); `u32::MAX` without a login.
    pub login_uid: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Inode number of the mount namespace.
    pub mntns: u32,
    /// [`crate::WatchClass`] of the process from now on.
    pub class: u32,
    /// `task->comm`.
    pub comm: [u8; 16],
    /// `mm->arg_start`..`arg_end`.
    pub argv: Text<ARGV_BYTES>,
}
record!(Process = size_of::<Header>() + 2 * 8 + 6 * 4 + 16 + 8 + ARGV_BYTES);

/// execve(2) failed in a process below a daemon: runc's last stage could not become the command.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecFailed {
    /// See [`Header`].
    pub header: Header,
    /// ENOENT, EACCES, ENOEXEC …
    pub errno: u32,
    /// Inode number of the process's mount namespace: the container's, unless runc failed before it entered that one.
    pub mntns: u32,
}
record!(ExecFailed = size_of::<Header>() + 4 + 4);

/// The last thread of a process on the path ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// See [`Header`].
    pub header: Header,
    /// Status as in wait(2): exit code in bits 8..15, signal in bits 0..6.
    pub status: u32,
    /// Zero.
    pub reserved: u32,
}
record!(Exit = size_of::<Header>() + 4 + 4);

/// A signal that ends a process, unless the process handles it, was sent to a process on the path. The header names the
/// receiving process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Signalled {
    /// See [`Header`].
    pub header: Header,
    /// Number of the signal.
    pub signal: u32,
    /// One of the `SENT_BY_` numbers.
    pub sent_by: u32,
    /// `start_boottime` of the running process, in nanoseconds.
    pub sender_start_ns: u64,
    /// Process that ran when the signal was sent: its sender, unless the kernel sent the signal by itself.
    pub sender_tgid: u32,
    /// User of that process, in the initial user namespace.
    pub sender_uid: u32,
    /// `task->comm` of that process.
    pub sender_comm: [u8; 16],
}
record!(Signalled = size_of::<Header>() + 4 + 4 + 8 + 4 + 4 + 16);

/// A process sent the signal: kill(2) and its relatives.
pub const SENT_BY_PROCESS: u32 = 0;
/// The kernel sent the signal, as to all processes of a pid namespace whose first process has ended.
pub const SENT_BY_KERNEL: u32 = 1;
/// The kernel chose the process as a victim, because memory ran out.
pub const SENT_FOR_MEMORY: u32 = 2;
