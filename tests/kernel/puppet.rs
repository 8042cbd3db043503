//! A process that does what it is told, one line at a time: this test executable, started once more.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead, BufReader, ErrorKind, Read, Write, stdin},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStringExt,
            net::{SocketAddr, UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    net::{RecvFlags, SendFlags, recv, send},
};

use crate::trace::names;

/// Set in the environment of a puppet, and of no other process.
const VARIABLE: &str = "EXECPATH_PUPPET";

/// Holds the strings of one.
pub(crate) struct Puppet {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Puppet {
    pub(crate) fn start() -> Self {
        Self::by(Command::new(own_path()))
    }

    /// Started by another program, which takes ours as its last arguments.
    pub(crate) fn under(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(own_path());
        Self::by(command)
    }

    pub(crate) fn by(mut command: Command) -> Self {
        command.arg("puppet").env(VARIABLE, "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a puppet starts");
        let to = child.stdin.take().expect("stdin");
        let from = BufReader::new(child.stdout.take().expect("stdout"));
        let mut puppet = Self { child, to, from };
        puppet.ask("hello");
        puppet
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it done, and returns the words of its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Vec<String> {
        self.tell(line);
        let mut answer = String::new();
        let read = self.from.read_line(&mut answer).expect("the puppet's stdout");
        assert!(read > 0, "the puppet died of: {line}");
        answer.split_whitespace().map(str::to_owned).collect()
    }

    /// Has something done that has no answer.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").expect("the puppet listens");
    }

    /// How it ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("wait(2)")
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

pub(crate) fn own_path() -> OsString {
    std::env::current_exe().expect("a test has a path").into()
}

/// Runs before `main`, in the first thread: the harness would act in another one, and a leader that ends first is one of the
/// things that a puppet does.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = act;

extern "C" fn act() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let mut stage = Stage::default();
    for line in stdin().lock().lines() {
        let line = line.expect("the master's words");
        let answer = stage.perform(&line.split(' ').collect::<Vec<&str>>());
        // The master may be gone: then so is the puppet, at the next line.
        let _gone = writeln!(std::io::stdout(), "{answer}");
    }
    exit_group(0)
}

#[derive(Default)]
struct Stage {
    sockets: BTreeMap<String, OwnedFd>,
    listeners: BTreeMap<String, TcpListener>,
    unix_listeners: BTreeMap<String, UnixListener>,
}

fn unix_address(path: &str) -> SocketAddr {
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).expect("an abstract name"),
        None => SocketAddr::from_pathname(path).expect("a path"),
    }
}

fn leave(fd: impl AsFd) -> String {
    let id = names(fd);
    format!("{} {}", id.cookie.unwrap_or(0), id.inode.unwrap_or(0))
}

impl Stage {
    fn keep(&mut self, name: &str, socket: impl Into<OwnedFd>) -> String {
        let socket = socket.into();
        let names = leave(&socket);
        self.sockets.insert(name.to_owned(), socket);
        names
    }

    fn perform(&mut self, words: &[&str]) -> String {
        match words {
            ["hello"] => "hello".to_owned(),
            ["connect", name, to] => match TcpStream::connect(to) {
                Ok(stream) => {
                    let (local, remote) = (stream.local_addr().expect("local"), stream.peer_addr().expect("remote"));
                    format!("{} {local} {remote}", self.keep(name, stream))
                }
                Err(error) => format!("error {:?}", error.kind()),
            },
            ["connect-from", name, from, to] => {
                let stream = connect_from(from.parse().expect("an address"), to.parse().expect("an address"));
                let (local, remote) = (stream.local_addr().expect("local"), stream.peer_addr().expect("remote"));
                format!("{} {local} {remote}", self.keep(name, stream))
            }
            ["listen", name, on] => {
                let listener = TcpListener::bind(on).expect("listens");
                let answer = format!("{} {}", leave(&listener), listener.local_addr().expect("local"));
                self.listeners.insert((*name).to_owned(), listener);
                answer
            }
            ["accept", name, on] => {
                let (stream, from) = self.listeners[*on].accept().expect("accepts");
                format!("{} {from}", self.keep(name, stream))
            }
            ["unix-listen", name, path] => {
                let listener = UnixListener::bind_addr(&unix_address(path)).expect("listens");
                self.unix_listeners.insert((*name).to_owned(), listener);
                "listening".to_owned()
            }
            ["unix-connect", name, path] => {
                let stream = UnixStream::connect_addr(&unix_address(path)).expect("connects");
                self.keep(name, stream)
            }
            ["unix-accept", name, on] => {
                let (stream, _) = self.unix_listeners[*on].accept().expect("accepts");
                self.keep(name, stream)
            }
            ["recv", name, count] => {
                let mut left: usize = count.parse().expect("a number");
                while left > 0 {
                    let mut bytes = vec![0_u8; left.min(65536)];
                    let (have, _) = recv(&self.sockets[*name], &mut bytes[..], RecvFlags::empty()).expect("receives");
                    if have == 0 {
                        return "eof".to_owned();
                    }
                    left -= have;
                }
                "received".to_owned()
            }
            ["peek", name] => {
                let (have, _) = recv(&self.sockets[*name], &mut [0_u8; 1][..], RecvFlags::PEEK).expect("peeks");
                format!("peeked {have}")
            }
            ["try-recv", name] => {
                let got = recv(&self.sockets[*name], &mut [0_u8; 1][..], RecvFlags::DONTWAIT);
                let kind = got.map_err(|error| std::io::Error::from(error).kind()).map(|(have, _)| have);
                assert_eq!(kind, Err(ErrorKind::WouldBlock));
                "empty".to_owned()
            }
            ["send", name, count] => {
                let mut bytes = vec![7_u8; count.parse().expect("a number")];
                while !bytes.is_empty() {
                    let sent = send(&self.sockets[*name], &bytes, SendFlags::NOSIGNAL).expect("sends");
                    bytes.drain(..sent);
                }
                "sent".to_owned()
            }
            ["close", name] => {
                self.sockets.remove(*name).expect("a socket of that name");
                "closed".to_owned()
            }
            ["mknod", kind, path] => {
                let kind = match *kind {
                    "fifo" => FileType::Fifo,
                    "file" => FileType::RegularFile,
                    "socket" => FileType::Socket,
                    other => panic!("no such kind of node: {other}"),
                };
                let made = mknodat(CWD, *path, kind, Mode::RUSR | Mode::WUSR, 0);
                format!("{made:?}").replace(' ', "")
            }
            ["threads", count] => {
                let count: usize = count.parse().expect("a number");
                let threads: Vec<_> = (0..count).map(|_| thread::spawn(|| ())).collect();
                for thread in threads {
                    thread.join().expect("ends");
                }
                "joined".to_owned()
            }
            ["run", program, arguments @ ..] => {
                format!("{:?}", Command::new(program).args(arguments).status().expect("runs").code()).replace(' ', "")
            }
            ["exit", code] => exit_group(code.parse().expect("a number")),
            ["exec-by-thread", program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments);
                let error = thread::spawn(move || command.exec()).join().expect("the thread is replaced, or tells why");
                format!("error {error}")
            }
            // The leader ends first, with one code; another thread last, with another.
            ["leave", how @ ("thread" | "group"), leader, last] => {
                let (leader, last): (i32, i32) = (leader.parse().expect("a number"), last.parse().expect("a number"));
                let whole = *how == "group";
                assert_eq!(rustix::thread::gettid(), rustix::process::getpid(), "a puppet acts in its first thread");
                thread::spawn(move || {
                    wait_for_zombie_leader();
                    if whole { exit_group(last) } else { exit_thread(last) }
                });
                exit_thread(leader)
            }
            other => panic!("a puppet cannot {other:?}"),
        }
    }
}

/// A connection from an address and port of one's own choice.
fn connect_from(from: std::net::SocketAddr, to: std::net::SocketAddr) -> TcpStream {
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None).expect("a socket");
    rustix::net::bind(&socket, &from).expect("binds");
    rustix::net::connect(&socket, &to).expect("connects");
    socket.into()
}

/// Until the first thread of this process has ended.
fn wait_for_zombie_leader() {
    let path = format!("/proc/self/task/{}/stat", std::process::id());
    loop {
        let mut stat = String::new();
        let read = std::fs::File::open(&path).and_then(|mut file| file.read_to_string(&mut stat));
        if read.is_ok() && stat.rsplit_once(") ").is_some_and(|(_, behind)| behind.starts_with('Z')) {
            return;
        }
        thread::yield_now();
    }
}

fn exit_thread(code: i32) -> ! {
    // SAFETY: ends this thread alone; nothing of its stack is used by others.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit(2) does not return")
}

fn exit_group(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(code) }
}

/// Bytes as an argument.
pub(crate) fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}
