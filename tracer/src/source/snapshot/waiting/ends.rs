//! How what a copy is given leads to the files that it reads and writes.
//!
//! Each way begins at a pointer in use, and follows pointers of objects that the collector therefore keeps. So memory that was
//! freed and handed out anew is never looked at, and a file that was closed meanwhile has no number any more.
//!
//! * A `net.Conn`: `*net.TCPConn` and `*net.UnixConn` hold a `*net.netFD`, which begins with a `poll.FD` (net/net.go: `conn`;
//!   net/fd_posix.go), as an `*os.File` does by way of its `*os.file` (os/file_unix.go). Wrappers begin with the `net.Conn`
//!   that they wrap: crypto/tls `Conn`; k8s.io/apimachinery `connWrapper` and `flowrate.Reader`; docker's `hijackedConn`.
//! * A `*bufio.Reader` has its reader behind its buffer (bufio/bufio.go): docker's client reads hijacked connections so.
//! * A stream of SPDY (containerd: pkg/cri/io/exec_io.go, `ExecIO.Attach`; the kubelet's dockershim): a
//!   `*spdystream.Stream`, or a `streamAndReply`, which begins with one as an interface (Kubernetes' streaming server:
//!   remotecommand/httpstream.go). That leads to its connection: `Stream.conn`, `Connection.conn` (moby/spdystream: the same
//!   places since its first version).
//! * A channel of a WebSocket, handed as it is (remotecommand/websocket.go): a `*websocketChannel`, whose `Conn` lists its channels
//!   by number (k8s.io/apimachinery, before that k8s.io/apiserver, wsstream/conn.go: the same places from Kubernetes 1.20
//!   to 1.30 at least) and holds a `*websocket.Conn`, with the hijacked connection behind three pointers (golang.org/x/net/websocket).
//! * A FIFO: containerd/fifo's `fifo`, which holds an `*os.File` behind `flag`, three channels and `err` (fifo.go, since its first
//!   version).

use super::{
    layout::Layout,
    memory::Source,
    walk::{Copying, Polled, Side},
};

/// `connWrapper`, `tls.Conn`, `TCPConn`, and one more.
const MAX_WRAPPERS: usize = 4;
/// Sizes of a `bufio.Reader`'s buffer: 4 KiB, where nobody says otherwise.
const BUFFERS: std::ops::RangeInclusive<u64> = 16..=1 << 20;
/// SPDY's ids of streams have 31 bits (SPDY/3, 2.6.1).
const MAX_STREAM_ID: u64 = 0x7fff_ffff;
/// `fdMutex.state`: the file is being closed (internal/poll/fd_mutex.go: `mutexClosed`).
const CLOSED: u64 = 1;

/// Says it by these words.
pub(super) struct Ends<'a, S> {
    pub(super) words: &'a S,
    pub(super) layout: Layout,
}

impl<S: Source> Ends<'_, S> {
    /// From file to file, if these two lead to files and one is that for which the goroutine waits.
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

    /// Number of the file to which that writes.
    pub(super) fn written_to(&self, writer: u64, files: &[Polled]) -> Option<u32> {
        self.wrapped(writer, files).or_else(|| self.stream_of(writer, files))
    }

    /// Number of the file from which that reads.
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

    /// Whether that reads this very file: an `*os.File`, or something that holds one.
    pub(super) fn reads(&self, reader: u64, file: Polled) -> bool {
        let file = std::slice::from_ref(&file);
        self.wrapped(reader, file).or_else(|| self.held(reader, file)).is_some()
    }

    /// Number of the FIFO that a `fifo` holds. What is no `fifo` is less, and behind it in the heap lies another's.
    fn held(&self, reader: u64, files: &[Polled]) -> Option<u32> {
        let words: [u64; 8] = self.words.some(reader)?;
        // A channel of nothing has no room for elements: `buf` is its own address (runtime/chan.go: `makechan`).
        let is_channel = |channel: u64| {
            self.words.some(channel).is_some_and(|[count, size, buf]| (count, size, buf) == (0, 0, channel + 16))
        };
        let file_behind = |flags: usize| {
            let small = words.get(..flags)?.iter().all(|word| *word <= u64::from(u32::MAX));
            let channels = words.get(flags..flags + 3)?.iter().all(|word| is_channel(*word));
            (small && channels).then(|| words.get(flags + 5).copied())?
        };
        // Some versions have `block` beside `flag`.
        let file = file_behind(1).or_else(|| file_behind(2))?;
        let fd = self.is_open(self.words.one(file)?, files)?;
        files.iter().find(|file| file.fd == fd && file.is_fifo).map(|file| file.fd)
    }

    /// Number of the connection to which that writes, if it is a `*Stream`, a `*streamAndReply` or a `*websocketChannel`.
    pub(super) fn stream_of(&self, writer: u64, connections: &[Polled]) -> Option<u32> {
        let in_reply = || {
            let [kind, stream] = self.words.some(writer)?;
            self.connection_of(stream, connections).filter(|_| self.words.is_type(kind))
        };
        self.connection_of(writer, connections).or_else(in_reply).or_else(|| self.socket_of(writer, connections))
    }

    /// Number of the connection whose stream that is, if it is a stream's address.
    fn connection_of(&self, stream: u64, connections: &[Polled]) -> Option<u32> {
        // streamId, parent, conn
        let [id, _parent, connection] = self.words.some(stream)?;
        if !(1..=MAX_STREAM_ID).contains(&id) {
            return None;
        }
        // Begins with its `net.Conn`, as wrappers do.
        let [_type, inner] = self.words.some(connection)?;
        self.wrapped(inner, connections)
    }

    /// Number of the connection whose WebSocket's channel that is, if it is a channel's address.
    fn socket_of(&self, channel: u64, connections: &[Polled]) -> Option<u32> {
        // conn, num: a byte, and nothing up to the next word
        let [connection, number] = self.words.some(channel)?;
        if number > u64::from(u8::MAX) {
            return None;
        }
        // protocols, selectedProtocol, channels, codec, ready, ws
        let [_protocols, _name, _length, first, length, capacity, _codec, _ready, socket] =
            self.words.some(connection)?;
        let own = || self.words.one(first.checked_add(8 * number)?);
        if number >= length || length > capacity || own() != Some(channel) {
            return None;
        }
        // config, request, buf, rwc
        let [_config, _request, _buffers, kind, inner] = self.words.some(socket)?;
        self.wrapped(inner, connections).filter(|_| self.words.is_type(kind))
    }

    /// Number of the file at the end of these wrappers.
    fn wrapped(&self, value: u64, files: &[Polled]) -> Option<u32> {
        let mut inner = value;
        for _ in 0..MAX_WRAPPERS {
            let [first, second] = self.words.some(inner)?;
            if let Some(fd) = self.is_open(first, files) {
                return Some(fd);
            }
            if !self.words.is_type(first) {
                // Hides ReadFrom or WriteTo: a struct of a pointer and nothing else that is none (since Go 1.22 net/net.go:
                // `tcpConnWithoutReadFrom`; os/file.go: `fileWithoutWriteTo`).
                return self.is_open(self.words.one(first)?, files);
            }
            inner = second;
        }
        None
    }

    /// Number of the file whose `poll.FD` that is.
    fn is_open(&self, poll_fd: u64, files: &[Polled]) -> Option<u32> {
        // fdMutex: `state`, and two semaphores.
        let [state, _semaphores, number] = self.words.some(poll_fd)?;
        let number = u32::try_from(number).ok().filter(|_| state & CLOSED == 0)?;
        let index = files.binary_search_by_key(&number, |file| file.fd).ok()?;
        let poller = self.words.one(poll_fd.checked_add(self.layout.poller)?)?;
        files.get(index).filter(|file| file.poller == poller).map(|file| file.fd)
    }
}
