//! Questions to sock_diag(7) and their answers, over one netlink socket.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::{FromRawFd, IntoRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
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
use rustix::net::{RecvFlags, sockopt};

use super::sockets::{Answer, MAX_SOCKETS, Measured, SocketFile, Sockets, TcpSocket, UnixSocket};
use crate::model::{Family, RawText, SocketId, TcpInfo, TcpMeasure, TcpState, Timer, TimerKind, Tuple, UnixMeasure};

/// The kernel fills up to 32 KiB at a time if the reader's buffer is that large (net/netlink/af_netlink.c: `netlink_dump`).
const BUFFER_BYTES: usize = 64 << 10;
/// Longest wait for a datagram. The kernel answers out of memory, so a second means that no answer will come.
const RECEIVE_WITHIN: Duration = Duration::from_secs(1);
/// Dumps of one table. A dump during which the table changed is repeated, and the last one is taken as it is.
const MAX_TRIES: usize = 3;
/// Signals in a row before a read is given up.
const MAX_INTERRUPTS: usize = 100;
/// Size of every netlink header.
const HEADER_BYTES: usize = 16;
/// Matches every cookie (include/uapi/linux/inet_diag.h: INET_DIAG_NOCOOKIE, twice).
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// States in which a connection carries bytes in at least one direction. Later states have no process, earlier ones no peer.
pub(super) fn connected() -> inet::StateFlags {
    inet::StateFlags::ESTABLISHED
        | inet::StateFlags::CLOSE_WAIT
        | inet::StateFlags::FIN_WAIT1
        | inet::StateFlags::FIN_WAIT2
}

pub(super) fn exactly(tuple: Tuple, states: inet::StateFlags) -> InetRequest {
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

pub(super) fn tcp_request(family: u8, states: inet::StateFlags) -> InetRequest {
    let socket_id = if family == AF_INET { inet::SocketId::new_v4() } else { inet::SocketId::new_v6() };
    InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id }
}

/// Request for unix sockets: of one inode, or of all (0).
pub(super) fn unix_request(state_flags: unix::StateFlags, inode: u32, show_flags: ShowFlags) -> UnixRequest {
    UnixRequest { state_flags, inode, show_flags, cookie: NO_COOKIE }
}

/// A netlink socket. Its answers are about the network namespace in which it was opened.
pub(super) struct Diag {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// State of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done { consistent: bool },
}

impl Diag {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        Self::with(Socket::new(NETLINK_SOCK_DIAG)?)
    }

    /// Uses a sock_diag socket that was opened in any network namespace.
    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open and owned, and its ownership moves into the socket.
        Self::with(unsafe { Socket::from_raw_fd(socket.into_raw_fd()) })
    }

    fn with(mut socket: Socket) -> io::Result<Self> {
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(RECEIVE_WITHIN))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Asks one question, and takes in the answer. `dump`: the answer is a table, not one socket.
    pub(super) fn ask(
        &mut self,
        request: SockDiagMessage,
        dump: bool,
        netns: u32,
        found: &mut Sockets,
    ) -> io::Result<()> {
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

    /// Reads one answer to its end. Returns false if the table changed meanwhile.
    fn receive(&mut self, dump: bool, netns: u32, found: &mut Sockets) -> io::Result<bool> {
        let (mut interrupts, mut consistent) = (0, true);
        let truncation = i32::try_from(RecvFlags::TRUNC.bits()).unwrap_or_default();
        // Bounded: a datagram holds at least one message, except for strays.
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
                continue; // The sender is not the kernel.
            }
            if length > self.buffer.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match parse_datagram(&self.buffer, self.sequence, dump, netns, found)? {
                Progress::More => {}
                Progress::Done { consistent: last } => return Ok(consistent && last),
            }
            consistent &= !interrupted(&self.buffer);
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// True if the first message reports that the table changed during the dump.
fn interrupted(bytes: &[u8]) -> bool {
    let flags = bytes.get(6..8).and_then(|flags| <[u8; 2]>::try_from(flags).ok());
    flags.is_some_and(|flags| u16::from_ne_bytes(flags) & NLM_F_DUMP_INTR != 0)
}

/// Takes in the messages of one datagram. An unknown message is skipped; one of impossible length is an error.
fn parse_datagram(
    mut bytes: &[u8],
    sequence: u32,
    dump: bool,
    netns: u32,
    found: &mut Sockets,
) -> io::Result<Progress> {
    while bytes.len() >= HEADER_BYTES {
        let length = bytes.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let message = bytes.get(..length).filter(|_| length >= HEADER_BYTES).ok_or(io::ErrorKind::InvalidData)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(message) else { continue };
        if message.header.sequence_number != sequence {
            continue; // The answer to a question that was given up.
        }
        match message.payload {
            NetlinkPayload::Done(_) => {
                return Ok(Progress::Done { consistent: message.header.flags & NLM_F_DUMP_INTR == 0 });
            }
            NetlinkPayload::Error(error) => {
                return if error.code.is_none() { Ok(Progress::Done { consistent: true }) } else { Err(error.to_io()) };
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
            return Ok(Progress::Done { consistent: true });
        }
    }
    Ok(Progress::More)
}

/// A listed TCP socket; `None` if no process has it (its inode is 0).
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

/// Numbers of a TCP socket.
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
    // The crate has no retry counts for these two timers; `tcp_info` has.
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

/// Fields of `struct tcp_info` by their offsets (include/uapi/linux/tcp.h). Kernels only append fields. The crate's parser refuses the
/// shorter struct of an older kernel.
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

/// Numbers of a unix socket.
fn unix_answer(response: &UnixResponse) -> Option<Answer> {
    let id = SocketId::new(cookie(response.header.cookie), u64::from(response.header.inode));
    let (recv_q, send_q) = response.nlas.iter().find_map(|nla| {
        let unix::nlas::Nla::ReceiveQueueLength(recv_q, send_q) = nla else { return None };
        Some((*recv_q, *send_q))
    })?;
    Some(Answer { id, tuple: None, measured: Measured::Unix(UnixMeasure { recv_q, send_q }) })
}

/// A listed unix socket; `None` if no process has it.
fn unix_socket(response: &UnixResponse) -> Option<(u64, UnixSocket)> {
    let header = &response.header;
    let inode = (header.inode != 0).then_some(u64::from(header.inode))?;
    let path = response.name().map(|name| match name {
        UnixDiagName::Pathname(path) => RawText::from(path.as_bytes()),
        UnixDiagName::Abstract(name) => RawText::from([b"\0", name.as_slice()].concat()),
    });
    let file = response.nlas.iter().find_map(|nla| {
        let unix::nlas::Nla::Vfs(_) = nla else { return None };
        // The crate hides the two numbers: inode, then device.
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

/// A cookie out of two words, the lower one first (net/core/sock_diag.c: `sock_diag_save_cookie`).
fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([a, b, c, d])) | (u64::from(u32::from_ne_bytes([e, f, g, h])) << 32)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn datagrams_of_any_bytes_never_panic() {
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
