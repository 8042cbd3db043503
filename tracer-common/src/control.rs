//! Settings that the loader passes to the object, and the object's counters.

/// Reason for watching a process.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchClass {
    /// Watched for its sockets: kubectl, a proxy, API server, kubelet.
    Endpoint = 1,
    /// Watched for its sockets, its FIFOs and its forks: a runtime or a shim.
    Daemon = 2,
    /// Forked by a daemon and not yet in a container: runc and its stages. Its forks are watched too, up to
    /// [`Watch::MAX_DEPTH`].
    RuntimeChild = 3,
    /// Ran execve inside a container's mount namespace. Its forks are not watched.
    InContainer = 4,
}

impl WatchClass {
    /// The class with this number, if one exists.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Endpoint, Self::Daemon, Self::RuntimeChild, Self::InContainer]
            .into_iter()
            .find(|class| *class as u32 == number)
    }
}

/// Value of the map of watched processes, by tgid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// `start_boottime` of the process in nanoseconds; 0 if unknown to the loader.
    pub start_ns: u64,
    /// Mount namespace of the daemon at the head of this lineage. An execve in another one is inside a container.
    pub mntns: u32,
    /// [`WatchClass`].
    pub class: u8,
    /// Number of forks since the daemon.
    pub depth: u8,
    /// [`Watch::GO_UNKNOWN`], [`Watch::GO_YES`] or [`Watch::GO_NO`].
    pub go: u8,
    /// Socket calls without a goroutine so far, while `go` is unknown.
    pub misses: u8,
    /// Offset of `goid` in the runtime's `g`; 0 if unknown.
    pub goid_offset: u16,
    /// Offset of `parentGoid` in the runtime's `g`; 0 if unknown.
    pub parent_goid_offset: u16,
    /// Quota that the process counts against: its user or, for root, its network namespace. 0 for processes added by
    /// the loader or by a fork.
    pub quota: u32,
}
const _: () = assert!(size_of::<Watch>() == 24);

impl Watch {
    /// All fields zero: a base for struct updates.
    pub const NONE: Self = Self {
        start_ns: 0,
        mntns: 0,
        class: 0,
        depth: 0,
        go: Self::GO_UNKNOWN,
        misses: 0,
        goid_offset: 0,
        parent_goid_offset: 0,
        quota: 0,
    };
    /// Lowest number of a network namespace (include/linux/proc_ns.h: PROC_DYNAMIC_FIRST). User ids are below it in
    /// practice.
    pub const FIRST_NAMESPACE: u32 = 0xf000_0000;
    /// Quota shared by all users but root. No user and no network namespace has this number.
    pub const OTHERS: u32 = u32::MAX;

    /// All quotas that a process with this [`Watch::quota`] counts against.
    pub fn quotas(quota: u32) -> impl Iterator<Item = u32> {
        let own = (quota != 0).then_some(quota);
        own.into_iter().chain(own.filter(|own| *own < Self::FIRST_NAMESPACE).map(|_| Self::OTHERS))
    }

    /// crio → conmon → runc → three stages → process are six forks.
    pub const MAX_DEPTH: u8 = 8;
    /// Undecided: no socket call of a goroutine was seen.
    pub const GO_UNKNOWN: u8 = 0;
    /// A Go program, version 1.17 or later. In its system calls, R14 (amd64) or X28 (arm64) holds the goroutine.
    pub const GO_YES: u8 = 1;
    /// Not Go, or too old: the thread is the actor.
    pub const GO_NO: u8 = 2;
    /// Number of calls without a goroutine after which a process counts as not Go. The check costs time, and in a Go
    /// program goroutines make the calls from the first one on.
    pub const GO_MISSES: u8 = 64;
}

/// Settings written once, before the object is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Only processes of this network namespace are enrolled; 0 for all.
    pub netns: u32,
    /// The tracer's own process, which is never enrolled.
    pub own_tgid: u32,
    /// Offset of Go's `g` register in the saved user registers. One object serves every architecture.
    pub g_register: u32,
    /// Offset of the stack pointer in the saved user registers.
    pub stack_register: u32,
    /// Limit of processes that one user, or root of one network namespace, may add to the path.
    pub watch_quota: u32,
    /// Limit of processes that all users but root together may add to the path.
    pub watch_shared: u32,
    /// Bits: [`Config::TASK_REGISTERS`], [`Config::MAKES_COOKIES`], [`Config::INODE_IDS`]. The verifier does not follow
    /// a branch that these constants exclude, so one object loads on kernels with and without a helper.
    pub features: u32,
    /// Offset of the saved user registers from the beginning of a kernel stack, without
    /// [`Config::TASK_REGISTERS`]; [`Offsets::ABSENT`] if unknown.
    pub registers_at: u32,
    /// Offset of a system call's first argument in the saved user registers. Valid on exit too.
    pub first_argument: u32,
    /// Offset of its third argument.
    pub third_argument: u32,
    /// Offset of its fourth argument.
    pub fourth_argument: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Config>() == 48);

impl Config {
    /// The kernel has `bpf_task_pt_regs` (Linux 5.15).
    pub const TASK_REGISTERS: u32 = 1;
    /// `bpf_get_socket_cookie` takes a socket in tracing programs (Linux 5.12).
    pub const MAKES_COOKIES: u32 = 2;
    /// A socket without a cookie is identified by its inode ([`crate::INODE_ID`]), because the probes of this road
    /// cannot make a cookie.
    pub const INODE_IDS: u32 = 4;
    /// R14, the second word of `struct pt_regs` (arch/x86/include/asm/ptrace.h).
    pub const G_REGISTER_X86_64: u32 = 8;
    /// `sp`, the twentieth word of `struct pt_regs`.
    pub const STACK_REGISTER_X86_64: u32 = 19 * 8;
    /// `di`, `dx` and `r10`: first, third and fourth argument of a system call. The kernel leaves them as they were
    /// (arch/x86/entry/entry_64.S: entry_SYSCALL_64).
    pub const ARGUMENTS_X86_64: [u32; 3] = [14 * 8, 12 * 8, 7 * 8];
    /// THREAD_SIZE on x86-64 without KASAN (arch/x86/include/asm/page_64_types.h). The registers are at its end; kernels
    /// with padding behind them (FRED, 6.9) have the helper.
    pub const STACK_BYTES_X86_64: u32 = 16 << 10;
    /// X28 of `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h).
    pub const G_REGISTER_AARCH64: u32 = 28 * 8;
    /// `sp` of `struct user_pt_regs`.
    pub const STACK_REGISTER_AARCH64: u32 = 31 * 8;
    /// `orig_x0`, which follows `struct user_pt_regs`, because the result replaces X0
    /// (arch/arm64/include/asm/ptrace.h:struct pt_regs); X2 and X3.
    pub const ARGUMENTS_AARCH64: [u32; 3] = [34 * 8, 2 * 8, 3 * 8];
}

/// The object's counters, per CPU.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Records written or lost: the sequence number.
    Sequence = 0,
    /// Records lost because the ring buffer was full.
    RingFull = 1,
    /// Processes not enrolled because the map or their user's quota was full.
    WatchFull = 2,
    /// Failed reads of kernel memory.
    ReadFailed = 3,
    /// Sockets without an end record, because the map was full.
    TrackedFull = 4,
    /// Receives not stored, because the map was full.
    LastFull = 5,
    /// Reads of FIFOs not stored, because the map was full.
    ReadingFull = 6,
    /// Calls of connect(2) or splice(2) without a result, because the map was full.
    SyscallsFull = 7,
}

impl Counter {
    /// Number of counters.
    pub const COUNT: u32 = 8;
    /// All counters, in order.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::Sequence,
        Self::RingFull,
        Self::WatchFull,
        Self::ReadFailed,
        Self::TrackedFull,
        Self::LastFull,
        Self::ReadingFull,
        Self::SyscallsFull,
    ];

    /// Counters of losses.
    pub fn losses() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|counter| *counter != Self::Sequence)
    }

    /// Stable name, as in `loss` lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::RingFull => "ring-full",
            Self::WatchFull => "watch-full",
            Self::ReadFailed => "read-failed",
            Self::TrackedFull => "tracked-full",
            Self::LastFull => "last-full",
            Self::ReadingFull => "reading-full",
            Self::SyscallsFull => "syscalls-full",
        }
    }
}

/// Error of [`Offsets::ready`]: the object cannot work without this field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadinessError {
    /// The missing field, as `struct.member`.
    pub field: &'static str,
}

/// Declares [`Offsets`] and, from the same rows, the BTF paths for the loader.
macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $of:literal . $path:literal $(or $of2:literal . $path2:literal)?;)*) => {
        /// Offsets of fields in this kernel, in bytes; [`Offsets::ABSENT`] for a field that the kernel lacks.
        ///
        /// rustc writes no CO-RE relocations. The loader therefore finds the offsets in the running kernel's BTF and
        /// passes them as a read-only global, so that the verifier treats them as constants.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct Offsets { $($(#[$doc])* pub $name: u32,)* }

        impl Offsets {
            /// The kernel has no such field.
            pub const ABSENT: u32 = u32::MAX;
            /// All offsets absent: the object's own value until the loader replaces it.
            pub const UNKNOWN: Self = Self { $($name: Self::ABSENT,)* };

            /// Calls `find(struct, member path)` for every offset. The second row of a pair is the field's name in
            /// other kernels.
            pub fn resolve(mut find: impl FnMut(&'static str, &'static str) -> Option<u32>) -> Self {
                Self { $($name: find($of, $path) $(.or_else(|| find($of2, $path2)))? .unwrap_or(Self::ABSENT),)* }
            }

            /// Every offset with its name, in order.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u32)> {
                [$((concat!($of, ".", $path), self.$name),)*].into_iter()
            }
        }
    };
}

offsets! {
    /// `task_struct.tgid`
    task_tgid = "task_struct"."tgid";
    /// `task_struct.group_leader`
    task_group_leader = "task_struct"."group_leader";
    /// `task_struct.start_boottime` (`real_start_time` before 5.5)
    task_start_boottime = "task_struct"."start_boottime" or "task_struct"."real_start_time";
    /// `task_struct.real_parent`
    task_real_parent = "task_struct"."real_parent";
    /// `task_struct.mm`
    task_mm = "task_struct"."mm";
    /// `task_struct.nsproxy`
    task_nsproxy = "task_struct"."nsproxy";
    /// `task_struct.signal`
    task_signal = "task_struct"."signal";
    /// `task_struct.exit_code`
    task_exit_code = "task_struct"."exit_code";
    /// `task_struct.cred`
    task_cred = "task_struct"."cred";
    /// `task_struct.loginuid`
    task_loginuid = "task_struct"."loginuid";
    /// `task_struct.files`
    task_files = "task_struct"."files";
    /// `task_struct.stack`
    task_stack = "task_struct"."stack";
    /// `mm_struct.arg_start`
    mm_arg_start = "mm_struct"."arg_start";
    /// `mm_struct.arg_end`
    mm_arg_end = "mm_struct"."arg_end";
    /// `nsproxy.mnt_ns`
    nsproxy_mnt_ns = "nsproxy"."mnt_ns";
    /// `nsproxy.net_ns`
    nsproxy_net_ns = "nsproxy"."net_ns";
    /// `mnt_namespace.ns.inum`
    mnt_ns_inum = "mnt_namespace"."ns.inum";
    /// `net.ns.inum`
    net_inum = "net"."ns.inum";
    /// `cred.uid`
    cred_uid = "cred"."uid";
    /// `signal_struct.live`
    signal_live = "signal_struct"."live";
    /// `signal_struct.flags`
    signal_flags = "signal_struct"."flags";
    /// `signal_struct.group_exit_code`
    signal_group_exit_code = "signal_struct"."group_exit_code";
    /// `files_struct.fdt`
    files_fdt = "files_struct"."fdt";
    /// `fdtable.max_fds`
    fdt_max_fds = "fdtable"."max_fds";
    /// `fdtable.fd`
    fdt_fd = "fdtable"."fd";
    /// `file.private_data`
    file_private_data = "file"."private_data";
    /// `file.f_inode`
    file_inode = "file"."f_inode";
    /// `inode.i_ino`
    inode_ino = "inode"."i_ino";
    /// `inode.i_mode`
    inode_mode = "inode"."i_mode";
    /// `inode.i_sb`
    inode_sb = "inode"."i_sb";
    /// `super_block.s_dev`
    sb_dev = "super_block"."s_dev";
    /// `super_block.s_magic`
    sb_magic = "super_block"."s_magic";
    /// `socket.sk`
    socket_sk = "socket"."sk";
    /// `socket_alloc.vfs_inode`: a socket and its inode are one allocation (include/net/sock.h)
    socket_alloc_inode = "socket_alloc"."vfs_inode";
    /// `sock.sk_socket`
    sock_socket = "sock"."sk_socket";
    /// `sock.sk_peer_pid`
    sock_peer_pid = "sock"."sk_peer_pid";
    /// `sock.__sk_common.skc_family`
    sock_family = "sock"."__sk_common.skc_family";
    /// `sock.__sk_common.skc_state`
    sock_state = "sock"."__sk_common.skc_state";
    /// `sock.__sk_common.skc_num`
    sock_num = "sock"."__sk_common.skc_num";
    /// `sock.__sk_common.skc_dport`
    sock_dport = "sock"."__sk_common.skc_dport";
    /// `sock.__sk_common.skc_daddr`
    sock_daddr = "sock"."__sk_common.skc_daddr";
    /// `sock.__sk_common.skc_rcv_saddr`
    sock_rcv_saddr = "sock"."__sk_common.skc_rcv_saddr";
    /// `sock.__sk_common.skc_v6_daddr`
    sock_v6_daddr = "sock"."__sk_common.skc_v6_daddr";
    /// `sock.__sk_common.skc_v6_rcv_saddr`
    sock_v6_rcv_saddr = "sock"."__sk_common.skc_v6_rcv_saddr";
    /// `sock.__sk_common.skc_net.net`
    sock_net = "sock"."__sk_common.skc_net.net";
    /// `sock.__sk_common.skc_cookie`
    sock_cookie = "sock"."__sk_common.skc_cookie";
    /// `sock.sk_protocol`
    sock_protocol = "sock"."sk_protocol";
    /// `sock.sk_err`
    sock_err = "sock"."sk_err";
    /// `tcp_sock.bytes_received`
    tcp_bytes_received = "tcp_sock"."bytes_received";
    /// `tcp_sock.bytes_acked`
    tcp_bytes_acked = "tcp_sock"."bytes_acked";
    /// `tcp_sock.snd_una`
    tcp_snd_una = "tcp_sock"."snd_una";
    /// `tcp_sock.rcv_nxt`
    tcp_rcv_nxt = "tcp_sock"."rcv_nxt";
    /// `unix_sock.addr`
    unix_addr = "unix_sock"."addr";
    /// `unix_sock.peer`
    unix_peer = "unix_sock"."peer";
    /// `unix_address.len`
    unix_address_len = "unix_address"."len";
    /// `unix_address.name`
    unix_address_name = "unix_address"."name";
    /// `inode.i_rdev`
    inode_rdev = "inode"."i_rdev";
    /// `sock.sk_type`
    sock_type = "sock"."sk_type";
    /// `mptcp_sock.first`: the TCP socket through which a multipath TCP listener is in the kernel's table
    mptcp_first = "mptcp_sock"."first";
    /// `pid.numbers`: the first entry is that of the initial pid namespace
    pid_numbers = "pid"."numbers";
}

impl Offsets {
    /// Checks that this kernel has every field required to see a session.
    ///
    /// # Errors
    /// The first required field that this kernel lacks.
    pub fn ready(&self) -> Result<(), ReadinessError> {
        // Optional fields: login uid, errors of failed connections, byte counters, sequence numbers, the file system of
        // a FIFO, fields read only by the iterator, and the stack, read only on kernels without a helper.
        const OPTIONAL: [&str; 13] = [
            "task_struct.loginuid",
            "task_struct.stack",
            "sock.sk_err",
            "tcp_sock.bytes_received",
            "tcp_sock.bytes_acked",
            "tcp_sock.snd_una",
            "tcp_sock.rcv_nxt",
            "inode.i_sb",
            "super_block.s_dev",
            "super_block.s_magic",
            "inode.i_rdev",
            "sock.sk_type",
            "mptcp_sock.first",
        ];
        match self.rows().find(|(name, at)| *at == Self::ABSENT && !OPTIONAL.contains(name)) {
            Some((field, _)) => Err(ReadinessError { field }),
            None => Ok(()),
        }
    }
}

/// The aya traits that let these types cross into maps and globals.
#[cfg(feature = "user")]
mod user {
    // SAFETY: repr(C), no padding, every bit pattern is valid.
    unsafe impl aya::Pod for super::Watch {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::Tracked {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::ActorKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::Reading {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::Last {}
}
