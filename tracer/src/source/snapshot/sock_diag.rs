//! What sock_diag(7) says of sockets, in every network namespace that can be entered.
//!
//! sock_diag answers for the namespace in which its socket was made. So a thread of its own, which ends afterwards, walks
//! through the namespaces: the caller's thread never leaves its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage, TCP_LISTEN,
    inet::{self, ExtensionFlags, InetRequest, InetResponse},
    unix::{self, ShowFlags, UnixRequest, UnixResponse, nlas::UnixDiagName},
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{RecvFlags, sockopt},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::model::{
    Family, Isn, RawText, SocketId, TcpInfo, TcpMeasure, TcpState, Timer, TimerKind, Tuple, UnixMeasure,
};

/// A pod is a namespace; the largest nodes run a few hundred.
pub(super) const MAX_NAMESPACES: usize = 4096;
/// In all. An API server of a large cluster has some ten thousand connections.
const MAX_SOCKETS: usize = 1 << 20;
/// The kernel fills up to 32 KiB at a time where the reader's buffer is that large (net/netlink/af_netlink.c: `netlink_dump`).
const BUFFER_BYTES: usize = 64 << 10;
/// The kernel answers out of memory; a second means that it never will.
const RECEIVE_WITHIN: Duration = Duration::from_secs(1);
/// A dump during which the kernel's table changed is asked for again this often, then taken as it is.
const MAX_TRIES: usize = 3;
/// Signals in a row before a read is given up.
const MAX_INTERRUPTS: usize = 100;
/// Every netlink header.
const HEADER_BYTES: usize = 16;
/// "Whatever its cookie is" (include/uapi/linux/inet_diag.h: INET_DIAG_NOCOOKIE, twice).
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Network namespaces by inode number, with files through which each can be entered.
pub(super) type Namespaces = BTreeMap<u32, Vec<PathBuf>>;

/// A TCP socket that a process may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpSocket {
    pub(super) id: SocketId,
    pub(super) inode: u64,
    pub(super) family: Family,
    pub(super) tuple: Tuple,
    pub(super) netns: u32,
    pub(super) listening: bool,
    /// sock_diag does not tell it: a BPF iterator does.
    pub(super) isn: Option<Isn>,
}

/// A unix socket that a process may own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnixSocket {
    pub(super) id: SocketId,
    /// Its own, or the listener's that it was accepted from. An abstract name begins with NUL.
    pub(super) path: Option<RawText>,
    /// The socket's file, where the socket is bound to one: the name may lead elsewhere by now.
    pub(super) file: Option<SocketFile>,
    pub(super) peer: Option<u64>,
    pub(super) listening: bool,
}

/// The file of a unix socket, as unix_diag gives it (include/uapi/linux/unix_diag.h: `unix_diag_vfs`): an inode number has 32
/// bits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SocketFile {
    /// As the kernel numbers devices.
    pub(super) device: u32,
    /// The lower half of the inode number.
    pub(super) inode: u32,
}

/// Why less is known than could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// Another network namespace may not be entered.
    NotPermitted,
    /// The kernel does not answer for TCP.
    NoTcp,
    /// The kernel does not answer for unix sockets.
    NoUnix,
    /// A process does not show what it has open.
    Hidden,
    /// There were more sockets, or namespaces, than are looked at.
    TooMany,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) tcp: BTreeMap<u64, TcpSocket>,
    /// Inode numbers of sockets are unique over all namespaces.
    pub(super) unix: BTreeMap<u64, UnixSocket>,
    pub(super) troubles: BTreeSet<Trouble>,
    /// The answer to a question for one socket.
    answer: Option<Answer>,
    pub(super) measured: Vec<(SocketId, Option<Measured>)>,
}

/// How one socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measured {
    Tcp(TcpMeasure),
    Unix(UnixMeasure),
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    id: SocketId,
    /// Of TCP sockets.
    tuple: Option<Tuple>,
    measured: Measured,
}

/// What is to be measured in one namespace.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) tcp: Vec<(SocketId, Tuple)>,
    pub(super) unix: Vec<SocketId>,
}

impl Sockets {
    /// Whether a table lists it.
    pub(super) fn holds(&self, inode: u64) -> bool {
        self.tcp.contains_key(&inode) || self.unix.contains_key(&inode)
    }

    fn is_full(&self) -> bool {
        self.tcp.len() + self.unix.len() >= MAX_SOCKETS
    }
}

const FAMILIES: [(u8, Absent); 2] = [(AF_INET, Absent::Trouble(Trouble::NoTcp)), (AF_INET6, Absent::Fine)];

/// Every listener and connection in these namespaces.
pub(super) fn dump(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| {
        // Who dials, and gets no answer, is on the path, too.
        let states = inet::StateFlags::LISTEN | inet::StateFlags::SYN_SENT | connected();
        for (family, absent) in FAMILIES {
            note(found, absent, |found| {
                diag.ask(SockDiagMessage::InetRequest(tcp_request(family, states.clone())), true, netns, found)
            });
        }
        list_unix(diag, unix::StateFlags::LISTEN | unix::StateFlags::ESTABLISHED, netns, found);
    })
}

/// The unix listeners in these namespaces.
pub(super) fn unix_listeners(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| list_unix(diag, unix::StateFlags::LISTEN, netns, found))
}

fn list_unix(diag: &mut Diag, state_flags: unix::StateFlags, netns: u32, found: &mut Sockets) {
    let request = UnixRequest {
        state_flags,
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::PEER | ShowFlags::VFS,
        cookie: NO_COOKIE,
    };
    note(found, Absent::Trouble(Trouble::NoUnix), |found| {
        diag.ask(SockDiagMessage::UnixRequest(request), true, netns, found)
    });
}

/// The connections with exactly these tuples; of each at most one a namespace.
pub(super) fn find(namespaces: &Namespaces, tuples: &BTreeSet<Tuple>) -> Sockets {
    let mut sockets = visit(namespaces, |netns, diag, found| {
        for tuple in tuples {
            // A look-up, not a dump: one hash bucket, however many connections there are.
            let request = SockDiagMessage::InetRequest(exactly(*tuple, connected()));
            note(found, Absent::Fine, |found| diag.ask(request, false, netns, found));
        }
    });
    // Where there is no such connection the kernel answers with a listener that would take it.
    sockets.tcp.retain(|_, socket| tuples.contains(&socket.tuple) && !socket.listening);
    sockets
}

/// Every socket that is in a table, whatever its state.
pub(super) fn everything(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| {
        for (family, absent) in FAMILIES {
            let request = tcp_request(family, inet::StateFlags::all());
            note(found, absent, |found| diag.ask(SockDiagMessage::InetRequest(request), true, netns, found));
        }
    })
}

/// How these sockets stand, by namespace; `None` for one that is not there any more. What could not be asked is left out.
/// A look-up for each: one hash bucket, however many sockets the host has.
pub(super) fn measure(namespaces: &Namespaces, wanted: &BTreeMap<u32, Wanted>) -> Sockets {
    let namespaces = namespaces.iter().filter(|(netns, _)| wanted.contains_key(netns));
    let namespaces = namespaces.map(|(netns, ways)| (*netns, ways.clone())).collect();
    visit(&namespaces, |netns, diag, found| {
        let Some(wanted) = wanted.get(&netns) else { return };
        for (id, tuple) in &wanted.tcp {
            let request = InetRequest { extensions: ExtensionFlags::INFO, ..exactly(*tuple, inet::StateFlags::all()) };
            one(found, *id, Some(*tuple), |found| diag.ask(SockDiagMessage::InetRequest(request), false, netns, found));
        }
        for id in &wanted.unix {
            let Some(inode) = id.inode.and_then(|inode| u32::try_from(inode).ok()) else { continue };
            let request = UnixRequest {
                state_flags: unix::StateFlags::all(),
                inode,
                show_flags: ShowFlags::RQLEN,
                cookie: NO_COOKIE,
            };
            one(found, *id, None, |found| diag.ask(SockDiagMessage::UnixRequest(request), false, netns, found));
        }
    })
}

/// How the other ends of these stand, whether a process has them or not; `None` for one that no table has. Nothing where not every
/// namespace can be asked: it may be in that one.
pub(super) fn others(
    namespaces: &Namespaces,
    ends: &BTreeMap<SocketId, (Tuple, Option<u32>)>,
) -> BTreeMap<SocketId, Option<TcpState>> {
    let found = visit(namespaces, |netns, diag, found| {
        for (id, (tuple, own)) in ends {
            // On loopback another namespace may hold an equal tuple that is a stranger.
            if tuple.is_loopback() && *own != Some(netns) {
                continue;
            }
            let other = tuple.mirrored();
            let request = SockDiagMessage::InetRequest(exactly(other, inet::StateFlags::all()));
            let near = SocketId { cookie: None, ..*id };
            one(found, near, Some(other), |found| diag.ask(request, false, netns, found));
        }
    });
    if !found.troubles.is_empty() {
        return BTreeMap::new();
    }
    let mut states: BTreeMap<SocketId, Option<TcpState>> = BTreeMap::new();
    for (id, measured) in found.measured {
        let state = if let Some(Measured::Tcp(measure)) = measured { Some(measure.state) } else { None };
        let known = states.entry(id).or_default();
        *known = known.or(state);
    }
    states
}

/// Asks for one socket, and keeps the answer if it is about that very one.
fn one(found: &mut Sockets, id: SocketId, tuple: Option<Tuple>, ask: impl FnOnce(&mut Sockets) -> io::Result<()>) {
    found.answer = None;
    match ask(found) {
        Ok(()) => {
            // Where there is no such connection the kernel answers with a listener that would take it.
            let is_it =
                |answer: &Answer| answer.tuple == tuple && (id.cookie.is_none() || id.cookie == answer.id.cookie);
            found.measured.push((id, found.answer.filter(is_it).map(|answer| answer.measured)));
        }
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => found.measured.push((id, None)),
        Err(_no_answer) => {}
    }
}

/// The TCP listeners in these namespaces.
pub(super) fn listeners(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| {
        for (family, absent) in FAMILIES {
            let request = tcp_request(family, inet::StateFlags::LISTEN);
            note(found, absent, |found| diag.ask(SockDiagMessage::InetRequest(request), true, netns, found));
        }
    })
}

/// Connections that still carry bytes one way or both. Later states have no process, earlier ones no peer.
fn connected() -> inet::StateFlags {
    inet::StateFlags::ESTABLISHED
        | inet::StateFlags::CLOSE_WAIT
        | inet::StateFlags::FIN_WAIT1
        | inet::StateFlags::FIN_WAIT2
}

fn exactly(tuple: Tuple, states: inet::StateFlags) -> InetRequest {
    let family = if tuple.local.is_ipv4() { AF_INET } else { AF_INET6 };
    let socket_id = inet::SocketId {
        source_port: tuple.local.port(),
        destination_port: tuple.remote.port(),
        source_address: tuple.local.ip(),
        destination_address: tuple.remote.ip(),
        interface_id: 0,
        cookie: NO_COOKIE,
    };
    InetRequest { socket_id, ..tcp_request(family, states) }
}

fn tcp_request(family: u8, states: inet::StateFlags) -> InetRequest {
    let socket_id = if family == AF_INET { inet::SocketId::new_v4() } else { inet::SocketId::new_v6() };
    InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id }
}

/// What ENOENT means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// The kernel has no such socket, or no IPv6.
    Fine,
    /// The kernel has nothing that answers.
    Trouble(Trouble),
}

/// Asks, and notes what failed.
fn note(found: &mut Sockets, absent: Absent, ask: impl FnOnce(&mut Sockets) -> io::Result<()>) {
    let trouble = match (ask(found), absent) {
        _ if found.is_full() => Some(Trouble::TooMany),
        (Ok(()), _) => None,
        (Err(_), Absent::Trouble(trouble)) => Some(trouble),
        (Err(error), Absent::Fine) => {
            (error.raw_os_error() != Some(Errno::NOENT.raw_os_error())).then_some(Trouble::NoTcp)
        }
    };
    found.troubles.extend(trouble);
}

/// Goes into each namespace in turn, on a thread of its own.
fn visit(namespaces: &Namespaces, mut ask: impl FnMut(u32, &mut Diag, &mut Sockets) + Send) -> Sockets {
    let walk = || {
        let mut found = Sockets::default();
        if namespaces.len() > MAX_NAMESPACES {
            found.troubles.insert(Trouble::TooMany);
        }
        // The namespace that the thread is in already needs no privilege; it goes first, as there is no way back.
        let own = super::procfs::namespace_of(Path::new("/proc/thread-self/ns/net"));
        let first = namespaces.get_key_value(&own.unwrap_or_default());
        let rest = namespaces.iter().filter(|(netns, _)| Some(**netns) != own);
        for (netns, paths) in first.into_iter().chain(rest).take(MAX_NAMESPACES) {
            if found.is_full() {
                break;
            }
            match if Some(*netns) == own { Ok(true) } else { enter(*netns, paths) } {
                Ok(true) => match Diag::open() {
                    Ok(mut diag) => ask(*netns, &mut diag, &mut found),
                    Err(_no_netlink) => {
                        found.troubles.insert(Trouble::NoTcp);
                    }
                },
                Ok(false) => {} // gone meanwhile
                Err(NotPermitted) => {
                    found.troubles.insert(Trouble::NotPermitted);
                }
            }
        }
        found
    };
    let nothing = || Sockets { troubles: BTreeSet::from([Trouble::NoTcp, Trouble::NoUnix]), ..Sockets::default() };
    thread::scope(|scope| match thread::Builder::new().name("sock-diag".to_owned()).spawn_scoped(scope, walk) {
        Ok(worker) => worker.join().unwrap_or_else(|_panic| nothing()),
        Err(_no_thread) => nothing(),
    })
}

struct NotPermitted;

/// Whether the thread is in that namespace now.
fn enter(netns: u32, paths: &[PathBuf]) -> Result<bool, NotPermitted> {
    let mut refused = false;
    for path in paths {
        // Not blocking: what lies in /run/netns may be a FIFO.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ACCESS | Errno::PERM) => {
                refused = true;
                continue;
            }
            Err(_gone) => continue,
        };
        // The process that had this pid may be another one by now.
        if !rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_ino == u64::from(netns)) {
            continue;
        }
        match move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)) {
            Ok(()) => return Ok(true),
            Err(Errno::PERM) => refused = true,
            Err(_no_namespace) => {}
        }
    }
    if refused { Err(NotPermitted) } else { Ok(false) }
}

/// A netlink socket, of the namespace in which it was made.
struct Diag {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Done { consistent: bool },
}

impl Diag {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(RECEIVE_WITHIN))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    fn ask(&mut self, request: SockDiagMessage, dump: bool, netns: u32, found: &mut Sockets) -> io::Result<()> {
        for _ in 0..MAX_TRIES {
            self.send(request.clone(), dump)?;
            if self.receive(dump, netns, found)? {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, request: SockDiagMessage, dump: bool) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = if dump { NLM_F_REQUEST | NLM_F_DUMP } else { NLM_F_REQUEST };
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_sent| ())
    }

    /// Reads one answer to its end; whether it is consistent.
    fn receive(&mut self, dump: bool, netns: u32, found: &mut Sockets) -> io::Result<bool> {
        let (mut interrupts, mut consistent) = (0, true);
        let truncation = i32::try_from(RecvFlags::TRUNC.bits()).unwrap_or_default();
        // A datagram holds at least one message, except for strays; twice the number of sockets is beyond any answer.
        for _ in 0..2 * MAX_SOCKETS {
            self.buffer.clear();
            let (length, sender) = match self.socket.recv_from(&mut self.buffer, truncation) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted && interrupts < MAX_INTERRUPTS => {
                    interrupts += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if sender.port_number() != 0 {
                continue; // not from the kernel
            }
            if length > self.buffer.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match parse_datagram(&self.buffer, self.sequence, dump, netns, found)? {
                Step::More => {}
                Step::Done { consistent: last } => return Ok(consistent && last),
            }
            consistent &= !interrupted(&self.buffer);
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Whether the first message says that the table changed under the dump.
fn interrupted(bytes: &[u8]) -> bool {
    let flags = bytes.get(6..8).and_then(|flags| <[u8; 2]>::try_from(flags).ok());
    flags.is_some_and(|flags| u16::from_ne_bytes(flags) & NLM_F_DUMP_INTR != 0)
}

/// Takes in the messages of one datagram. What makes no sense is skipped; what cannot be skipped is an error.
fn parse_datagram(mut bytes: &[u8], sequence: u32, dump: bool, netns: u32, found: &mut Sockets) -> io::Result<Step> {
    while bytes.len() >= HEADER_BYTES {
        let length = bytes.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let message = bytes.get(..length).filter(|_| length >= HEADER_BYTES).ok_or(io::ErrorKind::InvalidData)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(message) else { continue };
        if message.header.sequence_number != sequence {
            continue; // of a question that was given up
        }
        match message.payload {
            NetlinkPayload::Done(_) => {
                return Ok(Step::Done { consistent: message.header.flags & NLM_F_DUMP_INTR == 0 });
            }
            NetlinkPayload::Error(error) => {
                return if error.code.is_none() { Ok(Step::Done { consistent: true }) } else { Err(error.to_io()) };
            }
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                if !dump {
                    found.answer = tcp_answer(&response);
                }
                found.tcp.extend(tcp_socket(&response, netns).map(|socket| (socket.inode, socket)));
            }
            NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(response)) => {
                if !dump {
                    found.answer = unix_answer(&response);
                }
                found.unix.extend(unix_socket(&response));
            }
            NetlinkPayload::InnerMessage(SockDiagMessage::InetRequest(_) | SockDiagMessage::UnixRequest(_))
            | NetlinkPayload::Noop
            | NetlinkPayload::Overrun(_)
            | _ => {}
        }
        if !dump || found.is_full() {
            return Ok(Step::Done { consistent: true });
        }
    }
    Ok(Step::More)
}

/// `None` for sockets that no process has: their inode is 0.
fn tcp_socket(response: &InetResponse, netns: u32) -> Option<TcpSocket> {
    let header = &response.header;
    let id = &header.socket_id;
    let inode = (header.inode != 0).then_some(u64::from(header.inode))?;
    let family = match id.source_address {
        IpAddr::V4(_) => Family::Inet,
        IpAddr::V6(_) => Family::Inet6,
    };
    Some(TcpSocket {
        id: SocketId::new(cookie(id.cookie), inode),
        inode,
        family,
        tuple: Tuple::new(
            SocketAddr::new(id.source_address, id.source_port),
            SocketAddr::new(id.destination_address, id.destination_port),
        ),
        netns,
        listening: header.state == TCP_LISTEN,
        isn: None,
    })
}

fn tcp_answer(response: &InetResponse) -> Option<Answer> {
    let header = &response.header;
    let id = &header.socket_id;
    let timer = |kind, after: Duration, retries| Timer {
        kind,
        expires_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        retries,
    };
    let info = response.nlas.iter().find_map(|nla| {
        let inet::nlas::Nla::TcpInfo(bytes) = nla else { return None };
        tcp_info(bytes)
    });
    // Of these two timers the crate does not tell how often they fired in vain; the counters do.
    let probes = info.map_or(0, |info: TcpInfo| info.probes);
    let measure = TcpMeasure {
        state: TcpState::from_kernel(header.state)?,
        recv_q: header.recv_queue,
        send_q: header.send_queue,
        timer: header.timer.as_ref().map(|running| match running {
            inet::Timer::Retransmit(after, retries) => timer(TimerKind::Retransmit, *after, *retries),
            inet::Timer::KeepAlive(after) => timer(TimerKind::KeepAlive, *after, probes),
            inet::Timer::TimeWait => timer(TimerKind::TimeWait, Duration::ZERO, 0),
            inet::Timer::Probe(after) => timer(TimerKind::Probe, *after, probes),
        }),
        info,
    };
    let tuple = Tuple::new(
        SocketAddr::new(id.source_address, id.source_port),
        SocketAddr::new(id.destination_address, id.destination_port),
    );
    let id = SocketId::new(cookie(id.cookie), u64::from(header.inode));
    Some(Answer { id, tuple: Some(tuple), measured: Measured::Tcp(measure) })
}

/// Fields of `struct tcp_info` by their offsets (include/uapi/linux/tcp.h), to which kernels only ever append. By hand
/// because the reader of the netlink crate refuses what an older kernel sends, which is shorter.
fn tcp_info(bytes: &[u8]) -> Option<TcpInfo> {
    let byte = |at: usize| bytes.get(at).copied();
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    Some(TcpInfo {
        rtt_us: word(68)?.into(),
        rto_us: word(8)?.into(),
        backoff: byte(4)?,
        retransmits: byte(2)?,
        probes: byte(3)?,
        total_retransmits: word(100)?,
        unacked: word(24)?,
        lost: word(32)?,
        not_sent: word(144)?,
        send_window: word(228),
        send_mss: word(16)?,
        path_mtu: word(60)?,
        last_sent_ms: word(44)?,
        last_received_ms: word(52)?,
        last_ack_ms: word(56)?,
        bytes_acked: long(120)?,
        bytes_received: long(128)?,
        data_segments_in: word(152)?,
        data_segments_out: word(156)?,
    })
}

fn unix_answer(response: &UnixResponse) -> Option<Answer> {
    let id = SocketId::new(cookie(response.header.cookie), u64::from(response.header.inode));
    let (recv_q, send_q) = response.nlas.iter().find_map(|nla| {
        let unix::nlas::Nla::ReceiveQueueLength(recv_q, send_q) = nla else { return None };
        Some((*recv_q, *send_q))
    })?;
    Some(Answer { id, tuple: None, measured: Measured::Unix(UnixMeasure { recv_q, send_q }) })
}

fn unix_socket(response: &UnixResponse) -> Option<(u64, UnixSocket)> {
    let header = &response.header;
    let inode = (header.inode != 0).then_some(u64::from(header.inode))?;
    let path = response.name().map(|name| match name {
        UnixDiagName::Pathname(path) => RawText::from(path.as_bytes()),
        UnixDiagName::Abstract(name) => RawText::from([b"\0", name.as_slice()].concat()),
    });
    let file = response.nlas.iter().find_map(|nla| {
        let unix::nlas::Nla::Vfs(_) = nla else { return None };
        // The crate does not show the two numbers: inode, device.
        let mut bytes = [0; 8];
        (nla.value_len() == bytes.len()).then(|| nla.emit_value(&mut bytes))?;
        let [a, b, c, d, e, f, g, h] = bytes;
        Some(SocketFile { device: u32::from_ne_bytes([e, f, g, h]), inode: u32::from_ne_bytes([a, b, c, d]) })
    });
    let socket = UnixSocket {
        id: SocketId::new(cookie(header.cookie), inode),
        path,
        file,
        peer: response.peer().filter(|peer| *peer != 0).map(u64::from),
        listening: header.state == TCP_LISTEN,
    };
    Some((inode, socket))
}

/// Two words, the lower one first (net/core/sock_diag.c: `sock_diag_save_cookie`).
fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([a, b, c, d])) | (u64::from(u32::from_ne_bytes([e, f, g, h])) << 32)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    fn here() -> Namespaces {
        let path = PathBuf::from("/proc/self/ns/net");
        Namespaces::from([(super::super::procfs::namespace_of(&path).unwrap(), vec![path])])
    }

    #[test]
    fn a_listener_and_both_ends_of_a_connection_are_dumped_and_found() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_no_ipv6| TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = dump(&here());
        assert_eq!(found.troubles, BTreeSet::new());
        let inode = |fd: &dyn std::os::fd::AsFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
        assert!(found.tcp[&inode(&listener)].listening);
        let (near, far) = (found.tcp[&inode(&client)], found.tcp[&inode(&server)]);
        assert_eq!(near.tuple, Tuple::new(client.local_addr().unwrap(), client.peer_addr().unwrap()));
        assert_eq!(near.tuple, far.tuple.mirrored());
        assert_eq!(near.id.cookie, Some(sockopt::socket_cookie(&client).unwrap()));
        assert_eq!(find(&here(), &[far.tuple].into()).tcp.into_values().collect::<Vec<_>>(), [far]);
        let stranger = Tuple { remote: "192.0.2.1:9".parse().unwrap(), ..far.tuple };
        assert!(find(&here(), &[stranger].into()).tcp.is_empty());
        // The kernel would answer with the listener.
        let unborn = Tuple { remote: SocketAddr::new(far.tuple.remote.ip(), 9), ..far.tuple };
        assert!(find(&here(), &[unborn].into()).tcp.is_empty());
        assert!(listeners(&here()).tcp.values().all(|socket| socket.listening));
    }

    #[test]
    fn the_other_end_is_told_whoever_has_it_and_that_there_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Not accepted yet: no process has the other end.
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = here().into_keys().next();
        let tuple = Tuple::new(client.local_addr().unwrap(), client.peer_addr().unwrap());
        let id = SocketId::new(0, rustix::fs::fstat(&client).unwrap().st_ino);
        let unborn = Tuple { local: SocketAddr::new(tuple.local.ip(), 9), ..tuple };
        let ends = BTreeMap::from([(id, (tuple, own)), (SocketId::new(0, 1), (unborn, own))]);
        let found = others(&here(), &ends);
        let states: Vec<_> = found.into_values().collect();
        assert_eq!(states.len(), 2);
        assert!(states.contains(&Some(TcpState::Established)) && states.contains(&None), "{states:?}");
        let elsewhere = BTreeMap::from([(id, (tuple, None))]);
        assert!(others(&here(), &elsewhere).is_empty(), "loopback of an unknown namespace");
    }

    #[test]
    fn a_v4_mapped_connection_is_found_by_its_v4_tuple() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return eprintln!("skipped: no IPv6") };
        let client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let _server = listener.accept().unwrap();
        let tuple = Tuple::new(client.peer_addr().unwrap(), client.local_addr().unwrap());
        let found: Vec<_> = find(&here(), &[tuple].into()).tcp.into_values().collect();
        assert_eq!((found.len(), found[0].family), (1, Family::Inet6));
    }

    #[test]
    fn unix_ends_name_each_other_and_the_accepted_one_has_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = dump(&here()).unix;
        let inode = |fd: &dyn std::os::fd::AsFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
        let (near, far) = (&found[&inode(&client)], &found[&inode(&server)]);
        assert!(found[&inode(&listener)].listening);
        assert_eq!(far.path, Some(RawText::from(path.as_os_str().as_bytes())));
        assert_eq!((near.peer, far.peer, near.path.clone()), (Some(inode(&server)), Some(inode(&client)), None));
    }

    #[test]
    fn a_namespace_that_is_gone_or_is_none_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let inode = super::super::procfs::namespace_of(&plain).unwrap_or(1);
        let odd = Namespaces::from([(1, vec![PathBuf::from("/nonexistent")]), (inode, vec![plain])]);
        let found = dump(&odd);
        assert!(found.tcp.is_empty() && found.unix.is_empty());
        assert_eq!(found.troubles, BTreeSet::new());
    }

    #[test]
    fn datagrams_of_any_bytes_are_an_error_or_nothing_but_never_a_panic() {
        let mut diag = Diag::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        diag.send(SockDiagMessage::InetRequest(tcp_request(AF_INET, inet::StateFlags::LISTEN)), true).unwrap();
        diag.buffer.clear();
        diag.socket.recv(&mut diag.buffer, 0).unwrap();
        let whole = diag.buffer.clone();
        drop(listener);
        let mut found = Sockets::default();
        parse_datagram(&whole, 1, true, 7, &mut found).unwrap();
        assert!(!found.tcp.is_empty());
        let mut foreign = Sockets::default();
        parse_datagram(&whole, 2, true, 7, &mut foreign).unwrap();
        assert!(foreign.tcp.is_empty(), "an answer to another question");
        for end in 0..whole.len() {
            let _outcome = parse_datagram(&whole[..end], 1, true, 7, &mut found);
        }
        for at in 0..whole.len() {
            for bits in [0xff, 0x80, 0x01] {
                let mut bent = whole.clone();
                bent[at] ^= bits;
                let _outcome = parse_datagram(&bent, 1, true, 7, &mut found);
            }
        }
    }
}
