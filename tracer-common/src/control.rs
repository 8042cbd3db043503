//! What the loader tells the object, and what the object counts.

/// What a process is watched for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchClass {
    /// Its sockets: kubectl, a proxy, API server, kubelet.
    Endpoint = 1,
    /// Its sockets, its FIFOs and what it forks: a runtime or a shim.
    Daemon = 2,
    /// Forked by a daemon, not yet in a container: runc and its stages. What it forks is watched too, up to
    /// [`Watch::MAX_DEPTH`].
    Below = 3,
    /// Ran execve inside a container's mount namespace. What it forks is the container's own business.
    Contained = 4,
}

impl WatchClass {
    /// The class of that number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Endpoint, Self::Daemon, Self::Below, Self::Contained].into_iter().find(|class| *class as u32 == number)
    }
}

/// Value of the map of watched processes, by tgid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// `start_boottime` of the process, nanoseconds; 0 where the loader did not know it.
    pub start_ns: u64,
    /// Mount namespace of the daemon at the head of this lineage: an execve in another one is inside a container.
    pub mntns: u32,
    /// [`WatchClass`].
    pub class: u8,
    /// Forks since the daemon.
    pub depth: u8,
    /// [`Watch::GO_UNKNOWN`], [`Watch::GO_YES`] or [`Watch::GO_NO`].
    pub go: u8,
    /// Socket calls so far that no goroutine made, while `go` is unknown.
    pub misses: u8,
    /// Offset of `goid` in the runtime's `g`; 0 where not known.
    pub goid_offset: u16,
    /// Offset of `parentGoid` in the runtime's `g`; 0 where not known.
    pub parent_goid_offset: u16,
    /// Whose share of the map the process takes: its user or, for root, its network namespace. 0 where the loader or a fork
    /// put it onto the path.
    pub quota: u32,
}
const _: () = assert!(size_of::<Watch>() == 24);

impl Watch {
    /// All zero: a base to fill in.
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
    /// Network namespaces have numbers from this one on (include/linux/proc_ns.h: PROC_DYNAMIC_FIRST); users' numbers are below
    /// it in practice.
    pub const FIRST_NAMESPACE: u32 = 0xf000_0000;
    /// Share of all users but root together. No user and no network namespace has this number.
    pub const OTHERS: u32 = u32::MAX;

    /// The shares that a process with this [`Watch::quota`] takes.
    pub fn quotas(quota: u32) -> impl Iterator<Item = u32> {
        let own = (quota != 0).then_some(quota);
        own.into_iter().chain(own.filter(|own| *own < Self::FIRST_NAMESPACE).map(|_| Self::OTHERS))
    }

    /// crio → conmon → runc → three stages → process are six forks.
    pub const MAX_DEPTH: u8 = 8;
    /// Not decided yet: no socket call of a goroutine was seen.
    pub const GO_UNKNOWN: u8 = 0;
    /// A Go program, version 1.17 or later: in its calls R14 (amd64) or X28 (arm64) is the goroutine.
    pub const GO_YES: u8 = 1;
    /// Not Go, or too old: the thread is the actor.
    pub const GO_NO: u8 = 2;
    /// So many calls without a goroutine decide that it is not Go: looking costs, and a Go program's calls are goroutines'
    /// from the first one on.
    pub const GO_MISSES: u8 = 64;
}

/// Set once, before the object is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Only processes of this network namespace are enrolled; 0: all.
    pub netns: u32,
    /// The tracer's own process, which is never enrolled.
    pub own_tgid: u32,
    /// Offset in the saved user registers of the one that holds Go's `g`; one object serves every architecture.
    pub g_register: u32,
    /// Offset in the saved user registers of the stack pointer.
    pub stack_register: u32,
    /// Processes that one user, or root of one network namespace, may put onto the path.
    pub watch_quota: u32,
    /// Processes that all users but root together may put onto the path.
    pub watch_shared: u32,
}
const _: () = assert!(size_of::<Config>() == 24);

impl Config {
    /// R14, the second word of `struct pt_regs` (arch/x86/include/asm/ptrace.h).
    pub const G_REGISTER_X86_64: u32 = 8;
    /// `sp`, the twentieth word of the same.
    pub const STACK_REGISTER_X86_64: u32 = 19 * 8;
    /// X28 of `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h).
    pub const G_REGISTER_AARCH64: u32 = 28 * 8;
    /// `sp` of the same.
    pub const STACK_REGISTER_AARCH64: u32 = 31 * 8;
}

/// What the object counts, per CPU.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Records written or lost: the sequence number.
    Sequence = 0,
    /// Records that did not fit into the ring buffer.
    RingFull = 1,
    /// Processes that could not be enrolled: the map, or the quota of their user, is full.
    WatchFull = 2,
    /// Kernel reads that failed.
    ReadFailed = 3,
    /// Sockets whose end will not be reported: the map is full.
    TrackedFull = 4,
    /// Receives that were not remembered: the map is full.
    LastFull = 5,
    /// Reads of FIFOs that were not remembered: the map is full.
    ReadingFull = 6,
    /// Calls of connect(2) or splice(2) whose result will not be seen: the map is full.
    SyscallsFull = 7,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = 8;
    /// All of them, in order.
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

    /// Those that count losses.
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

/// What the offsets lack for the object to be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadinessError {
    /// The field that was not found, as `struct.member`.
    pub field: &'static str,
}

/// Declares [`Offsets`] and, from the same rows, the BTF paths that the loader looks up.
macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $of:literal . $path:literal $(or $of2:literal . $path2:literal)?;)*) => {
        /// Where fields lie in this kernel, in bytes; [`Offsets::ABSENT`] where the kernel has no such field.
        ///
        /// rustc writes no CO-RE relocations, so the loader finds these in the running kernel's BTF and hands them over as a
        /// read-only global, which the verifier then knows as constants.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct Offsets { $($(#[$doc])* pub $name: u32,)* }

        impl Offsets {
            /// The kernel has no such field.
            pub const ABSENT: u32 = u32::MAX;
            /// Nothing known: the object's own value until the loader overrides it.
            pub const UNKNOWN: Self = Self { $($name: Self::ABSENT,)* };

            /// Asks `find(struct, member path)` for every offset. The second row of a pair is the field's other name, in
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
    /// `mptcp_sock.first`: the TCP socket that a listener of multipath TCP has in the kernel's table
    mptcp_first = "mptcp_sock"."first";
    /// `pid.numbers`: the first is the initial pid namespace's
    pid_numbers = "pid"."numbers";
}

impl Offsets {
    /// Whether the fields are there without which no session can be seen.
    ///
    /// # Errors
    /// The first such field that this kernel lacks.
    pub fn ready(&self) -> Result<(), ReadinessError> {
        // Optional: who logged in, byte counters, sequence numbers, which file system a FIFO is on, what the iterator alone reads.
        const OPTIONAL: [&str; 11] = [
            "task_struct.loginuid",
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
    unsafe impl aya::Pod for crate::LastKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::Reading {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::Last {}
}
