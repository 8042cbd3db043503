//! Protocols of the actors: an HTTP upgrade followed by frames, and JSON lines on unix sockets.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    thread,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Port of the API server.
pub(super) const APISERVER: u16 = 6443;
/// Port of the kubelet.
pub(super) const KUBELET: u16 = 10250;
/// Response of a server that switches from HTTP to a stream.
pub(super) const UPGRADED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: execpath-demo\r\n\r\n";

/// Longest head of a request or response.
const MAX_HEAD: usize = 64 << 10;
/// Longest payload of a frame.
const MAX_FRAME: u32 = 64 << 10;

/// Head of a request or response, and further bytes read with it.
pub(super) struct Head {
    /// The first line: `POST /exec/… HTTP/1.1`, or `HTTP/1.1 101 …`.
    pub(super) first: String,
    /// The head, and any bytes received after it.
    pub(super) bytes: Vec<u8>,
    /// Length of the head in `bytes`.
    pub(super) length: usize,
}

impl Head {
    /// Reads up to the empty line.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            if let Some(length) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) {
                let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
                return Ok(Self { first: String::from_utf8_lossy(first).into_owned(), bytes, length });
            }
            match stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if bytes.len() > MAX_HEAD => return Err(io::Error::other("a head without an end")),
                read => bytes.extend_from_slice(&piece[..read]),
            }
        }
    }

    /// The path of a request, with its query.
    pub(super) fn path(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// True if the server switched protocols.
    pub(super) fn is_upgraded(&self) -> bool {
        self.first.split(' ').nth(1) == Some("101")
    }
}

/// A request to switch from HTTP to a stream.
pub(super) fn request(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: execpath-demo\r\n\r\n")
}

/// Query `command=sh&command=-c…`, the format of PodExecOptions.
pub(super) fn query(command: &[String]) -> String {
    let escaped = |word: &String| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        word.bytes().map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") }).collect()
    };
    command.iter().map(|word| format!("command={}", escaped(word))).collect::<Vec<_>>().join("&")
}

/// The command in a path with a query.
pub(super) fn command(path: &str) -> Vec<String> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter_map(|pair| pair.strip_prefix("command=")).map(unescape).collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (*first, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            (plain, _) => {
                bytes.push(plain);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Copies in both directions, each in its own thread, and passes on the end of each direction.
pub(super) fn relay(near: TcpStream, far: TcpStream) -> io::Result<()> {
    let (near_reads, far_writes) = (near.try_clone()?, far.try_clone()?);
    let back = thread::spawn(move || copy(far, near));
    copy(near_reads, far_writes);
    drop(back.join());
    Ok(())
}

/// Copies until either end closes. Errors are not reported, since both ends notice them.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

/// Content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Streams that the client requests: the first frame, and the only one from the client.
    Streams,
    Stdout,
    Stderr,
    /// The exit code in decimal: the last frame.
    Exit,
}

impl Channel {
    const ALL: [Self; 4] = [Self::Streams, Self::Stdout, Self::Stderr, Self::Exit];

    /// Number of the channel in a frame.
    const fn number(self) -> u8 {
        match self {
            Self::Streams => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Exit => 3,
        }
    }
}

/// Writes a frame: channel, length, bytes.
pub(super) fn write_frame(to: &mut impl Write, channel: Channel, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = vec![channel.number()];
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    to.write_all(&frame)
}

/// Reads a frame.
pub(super) fn read_frame(from: &mut impl Read) -> io::Result<(Channel, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [number, length @ ..] = head;
    let channel = Channel::ALL.into_iter().find(|channel| channel.number() == number);
    let length = u32::from_be_bytes(length);
    match channel {
        Some(channel) if length <= MAX_FRAME => {
            let mut bytes = Vec::new();
            from.take(u64::from(length)).read_to_end(&mut bytes)?;
            Ok((channel, bytes))
        }
        Some(_) | None => Err(io::Error::other("this is no frame")),
    }
}

/// Kubelet to runtime: `Exec` of the CRI, which returns an address instead of a result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExecRequest {
    pub(super) container_id: String,
    pub(super) cmd: Vec<String>,
}

/// Runtime to kubelet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExecResponse {
    pub(super) url: String,
}

/// Runtime to shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShimExec {
    pub(super) exec: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) args: Vec<String>,
}

/// Shim to runtime.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ShimEvent {
    Started { pid: u32 },
    Failed { why: String },
    Exited { code: i32 },
}

/// JSON lines on a unix connection.
pub(super) struct Lines {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { writer: stream.try_clone()?, reader: BufReader::new(stream) })
    }

    pub(super) fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        write_line(&mut self.writer, value)
    }

    /// Reads a value; `None` if the connection is closed.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

/// Writes a line in one write, and flushes it.
pub(super) fn write_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_preserves_command() {
        let words: Vec<String> = ["sh", "-c", "echo a&b=50% ü; exit 7", ""].map(str::to_owned).to_vec();
        assert_eq!(command(&format!("/exec/x?{}", query(&words))), words);
        assert_eq!(command("/exec/x"), Vec::<String>::new());
        assert_eq!(command("/exec/x?command=%zz%"), ["%zz%"]);
    }

    #[test]
    fn frames_and_heads_round_trip() {
        let mut wire = UPGRADED.as_bytes().to_vec();
        write_frame(&mut wire, Channel::Stdout, b"hello").unwrap();
        let head = Head::read(&mut wire.as_slice()).unwrap();
        assert!(head.is_upgraded());
        let mut rest = &head.bytes[head.length..];
        assert_eq!(read_frame(&mut rest).unwrap(), (Channel::Stdout, b"hello".to_vec()));
        assert!(read_frame(&mut rest).is_err());
        assert!(Head::read(&mut &b"POST / HTTP/1.1\r\n"[..]).is_err());
    }
}
