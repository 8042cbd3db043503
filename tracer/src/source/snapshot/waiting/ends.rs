//! Follows the arguments of a copy to the files that it reads and writes.
//!
//! Each path begins at a live pointer and follows pointers of objects that the collector therefore keeps. Reused memory is never read,
//! and a file that was closed meanwhile has lost its number.
//!
//! * A `net.Conn`: `*net.TCPConn` and `*net.UnixConn` hold a `*net.netFD`, which begins with a `poll.FD` (net/net.go: `conn`;
//!   net/fd_posix.go), as an `*os.File` does by way of its `*os.file` (os/file_unix.go). Wrappers begin with the `net.Conn`
//!   that they wrap: crypto/tls `Conn`; k8s.io/apimachinery `connWrapper` and `flowrate.Reader`; docker's `hijackedConn`.
//! * A `*bufio.Reader` has its reader behind its buffer (bufio/bufio.go). docker's client reads hijacked connections through one.
//! * A stream of SPDY (containerd: pkg/cri/io/exec_io.go, `ExecIO.Attach`; the kubelet's dockershim): a
//!   `*spdystream.Stream`, or a `streamAndReply`, which begins with one as an interface (Kubernetes' streaming server:
//!   remotecommand/httpstream.go). The stream leads to its connection: `Stream.conn`, `Connection.conn` (moby/spdystream: the same
//!   places since its first version).
//! * A channel of a WebSocket (remotecommand/websocket.go): a `*websocketChannel`, whose `Conn` lists its channels
//!   by number (k8s.io/apimachinery, before that k8s.io/apiserver, wsstream/conn.go: the same places from Kubernetes 1.20
//!   to 1.30 at least) and holds a `*websocket.Conn`, with the hijacked connection behind three pointers (golang.org/x/net/websocket).
//! * A FIFO of containerd/fifo: a `fifo` holds an `*os.File` behind `flag`, three channels and `err` (fifo.go, since its first
//!   version).

use super::{
    layout::Layout,
    memory::ReadWords,
    poller::{Polled, Side},
};

/// Wrappers around a file: `connWrapper`, `tls.Conn`, `TCPConn`, and one more.
const MAX_WRAPPERS: usize = 4;
/// Sizes of a `bufio.Reader`'s buffer. The default is 4 KiB.
const BUFFERS: std::ops::RangeInclusive<u64> = 16..=1 << 20;
/// Largest id of a stream: SPDY uses 31 bits (SPDY/3, 2.6.1).
const MAX_STREAM_ID: u64 = 0x7fff_ffff;
/// Bit of `fdMutex.state` while the file is being closed (internal/poll/fd_mutex.go: `mutexClosed`).
const CLOSED: u64 = 1;

/// Live arguments of a call that copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    /// Values of two interfaces: of the writer, and of the reader.
    Values(u64, u64),
    /// Addresses of two `poll.FD`: written to, and read from.
    Files(u64, u64),
}

/// Follows values to files, through the memory that `words` reads.
pub(super) struct Ends<'a, S> {
    pub(super) words: &'a S,
    pub(super) layout: Layout,
}

impl<S: ReadWords> Ends<'_, S> {
    /// Descriptors between which a call copies, if both arguments lead to files and one is the file for which the goroutine waits.
    pub(super) fn copies(&self, file: Polled, side: Side, copying: Copying, files: &[Polled]) -> Option<(u32, u32)> {
        let own = std::slice::from_ref(&file);
        let (sources, targets) = match side {
            Side::Reads => (own, files),
            Side::Writes => (files, own),
        };
        let (from, to) = match copying {
            Copying::Values(writer, reader) => (self.read_from(reader, sources)?, self.written_to(writer, targets)?),
            Copying::Files(to, from) => (self.is_open(from, sources)?, self.is_open(to, targets)?),
        };
        (from != to).then_some((from, to))
    }

    /// Descriptor to which a writer writes.
    pub(super) fn written_to(&self, writer: u64, files: &[Polled]) -> Option<u32> {
        self.wrapped(writer, files).or_else(|| self.stream_of(writer, files))
    }

    /// Descriptor from which a reader reads.
    pub(super) fn read_from(&self, reader: u64, files: &[Polled]) -> Option<u32> {
        self.wrapped(reader, files).or_else(|| {
            let [buffer, length, capacity, kind, value] = self.words.some(reader)?;
            let is_buffered = BUFFERS.contains(&length) && length == capacity && self.words.one(buffer).is_some();
            if is_buffered && self.words.is_type(kind) {
                return self.wrapped(value, files);
            }
            self.held(reader, files)
        })
    }

    /// True if a reader reads this file: an `*os.File`, or a value that holds one.
    pub(super) fn reads(&self, reader: u64, file: Polled) -> bool {
        let file = std::slice::from_ref(&file);
        self.wrapped(reader, file).or_else(|| self.held(reader, file)).is_some()
    }

    /// Descriptor of the FIFO that a `fifo` holds. All fields are checked: behind a smaller object lies another one in the heap.
    fn held(&self, reader: u64, files: &[Polled]) -> Option<u32> {
        let words: [u64; 8] = self.words.some(reader)?;
        // A channel of empty elements has no buffer: `buf` is its own address (runtime/chan.go: `makechan`).
        let is_channel = |channel: u64| {
            self.words.some(channel).is_some_and(|[count, size, buf]| (count, size, buf) == (0, 0, channel + 16))
        };
        let file_behind = |flags: usize| {
            let small = words.get(..flags)?.iter().all(|word| *word <= u64::from(u32::MAX));
            let channels = words.get(flags..flags + 3)?.iter().all(|word| is_channel(*word));
            (small && channels).then(|| words.get(flags + 5).copied())?
        };
        // Some versions have the field `block` after `flag`.
        let file = file_behind(1).or_else(|| file_behind(2))?;
        let fd = self.is_open(self.words.one(file)?, files)?;
        files.iter().find(|file| file.fd == fd && file.is_fifo).map(|file| file.fd)
    }

    /// Descriptor of the connection of a `*Stream`, a `*streamAndReply` or a `*websocketChannel`.
    pub(super) fn stream_of(&self, writer: u64, connections: &[Polled]) -> Option<u32> {
        let in_reply = || {
            let [kind, stream] = self.words.some(writer)?;
            self.connection_of(stream, connections).filter(|_| self.words.is_type(kind))
        };
        self.connection_of(writer, connections).or_else(in_reply).or_else(|| self.socket_of(writer, connections))
    }

    /// Descriptor of the connection of a stream, if `stream` is the address of one.
    fn connection_of(&self, stream: u64, connections: &[Polled]) -> Option<u32> {
        // Stream: streamId, parent, conn
        let [id, _parent, connection] = self.words.some(stream)?;
        if !(1..=MAX_STREAM_ID).contains(&id) {
            return None;
        }
        // The connection begins with its `net.Conn`, as wrappers do.
        let [_type, inner] = self.words.some(connection)?;
        self.wrapped(inner, connections)
    }

    /// Descriptor of the connection of a WebSocket's channel, if `channel` is the address of one.
    fn socket_of(&self, channel: u64, connections: &[Polled]) -> Option<u32> {
        // websocketChannel: conn, num (a byte, padded with zeros)
        let [connection, number] = self.words.some(channel)?;
        if number > u64::from(u8::MAX) {
            return None;
        }
        // wsstream.Conn: protocols, selectedProtocol, channels, codec, ready, ws
        let [_protocols, _name, _length, first, length, capacity, _codec, _ready, socket] =
            self.words.some(connection)?;
        let own = || self.words.one(first.checked_add(8 * number)?);
        // The connection lists the channel under its number.
        if number >= length || length > capacity || own() != Some(channel) {
            return None;
        }
        // websocket.Conn: config, request, buf, rwc
        let [_config, _request, _buffers, kind, inner] = self.words.some(socket)?;
        self.wrapped(inner, connections).filter(|_| self.words.is_type(kind))
    }

    /// Descriptor of the file inside wrappers.
    fn wrapped(&self, value: u64, files: &[Polled]) -> Option<u32> {
        let mut inner = value;
        for _ in 0..MAX_WRAPPERS {
            let [first, second] = self.words.some(inner)?;
            if let Some(fd) = self.is_open(first, files) {
                return Some(fd);
            }
            if !self.words.is_type(first) {
                // A struct that hides ReadFrom or WriteTo holds a pointer and an empty field (since Go 1.22 net/net.go:
                // `tcpConnWithoutReadFrom`; os/file.go: `fileWithoutWriteTo`).
                return self.is_open(self.words.one(first)?, files);
            }
            inner = second;
        }
        None
    }

    /// Descriptor of the open file with this `poll.FD`.
    fn is_open(&self, poll_fd: u64, files: &[Polled]) -> Option<u32> {
        // fdMutex: `state`, and two semaphores.
        let [state, _semaphores, number] = self.words.some(poll_fd)?;
        let number = u32::try_from(number).ok().filter(|_| state & CLOSED == 0)?;
        let index = files.binary_search_by_key(&number, |file| file.fd).ok()?;
        let poller = self.words.one(poll_fd.checked_add(self.layout.poller)?)?;
        files.get(index).filter(|file| file.poller == poller).map(|file| file.fd)
    }
}
