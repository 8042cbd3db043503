//! Life of processes: fork, exec, exit.

use crate::{Actor, Header, Text, header::record};

/// How much of an argv is kept: runc's own with two 64-digit ids is about 500 bytes.
pub const ARGV_BYTES: usize = 1024;

/// A process below a runtime or a shim forked. The header names the forking process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// See [`Header`].
    pub header: Header,
    /// The new process.
    pub child_tgid: u32,
    /// Zero.
    pub reserved: u32,
    /// `start_boottime` of the new process, nanoseconds.
    pub child_start_ns: u64,
    /// Who called fork, where a daemon did; zero below it.
    pub actor: Actor,
    /// Cookie of the socket on which the same actor received last; 0: none.
    pub inbound_cookie: u64,
    /// Its inode.
    pub inbound_inode: u64,
}
record!(Fork = size_of::<Header>() + 4 + 4 + 8 + size_of::<Actor>() + 16);

/// What a process is: after an execve, or when it came onto the path.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// See [`Header`].
    pub header: Header,
    /// `start_boottime` of the parent, nanoseconds.
    pub parent_start_ns: u64,
    /// Inode of its cgroup in the unified hierarchy (`bpf_get_current_cgroup_id`).
    pub cgroup_id: u64,
    /// `real_parent->tgid`.
    pub parent_tgid: u32,
    /// User in the initial user namespace.
    pub uid: u32,
    /// Who logged in (audit); `u32::MAX` where nobody did.
    pub login_uid: u32,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Inode number of its mount namespace.
    pub mntns: u32,
    /// [`crate::WatchClass`] that it has from now on.
    pub class: u32,
    /// `task->comm`.
    pub comm: [u8; 16],
    /// `mm->arg_start`..`arg_end`.
    pub argv: Text<ARGV_BYTES>,
}
record!(Process = size_of::<Header>() + 2 * 8 + 6 * 4 + 16 + 8 + ARGV_BYTES);

/// The last thread of a process on the path ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// See [`Header`].
    pub header: Header,
    /// As wait(2) reports it: exit code in bits 8..15, signal in bits 0..6.
    pub status: u32,
    /// Zero.
    pub reserved: u32,
}
record!(Exit = size_of::<Header>() + 4 + 4);
