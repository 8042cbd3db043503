//! A helper process that executes one command per line: this test executable, started once more.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead, BufReader, ErrorKind, Read, Write, stdin},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
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
    net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket},
};

use crate::trace::names;

/// Environment variable set only for helper processes.
const VARIABLE: &str = "EXECPATH_HELPER_PROCESS";

/// A running helper process, killed on drop.
pub(crate) struct HelperProcess {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl HelperProcess {
    pub(crate) fn start() -> Self {
        Self::by(Command::new(own_path()))
    }

    /// Starts a helper process through another program, with our path as its last argument.
    pub(crate) fn under(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(own_path());
        Self::by(command)
    }

    pub(crate) fn by(mut command: Command) -> Self {
        command.arg("helper-process").env(VARIABLE, "1");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the helper process starts");
        let to = child.stdin.take().expect("stdin");
        let from = BufReader::new(child.stdout.take().expect("stdout"));
        let mut helper = Self { child, to, from };
        helper.request("hello");
        helper
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command, and returns the words of the answer.
    pub(crate) fn request(&mut self, line: &str) -> Vec<String> {
        self.send(line);
        let mut answer = String::new();
        let read = self.from.read_line(&mut answer).expect("the helper process's stdout");
        assert!(read > 0, "the helper process died of: {line}");
        answer.split_whitespace().map(str::to_owned).collect()
    }

    /// Sends a command without an answer.
    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.to, "{line}").expect("the helper process reads its stdin");
    }

    /// Waits for the exit status.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("wait(2)")
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // The helper process may have exited already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

pub(crate) fn own_path() -> OsString {
    std::env::current_exe().expect("a test has a path").into()
}

/// Runs before `main`, in the first thread: the test harness would run it in another thread. One command ends the first
/// thread early.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = run_commands;

extern "C" fn run_commands() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let mut sandbox = Sandbox::default();
    for line in stdin().lock().lines() {
        let line = line.expect("a command");
        let answer = sandbox.execute(&line.split(' ').collect::<Vec<&str>>());
        // The parent may be gone: then the helper process ends at the next line.
        let _gone = writeln!(std::io::stdout(), "{answer}");
    }
    exit_group(0)
}

#[derive(Default)]
struct Sandbox {
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

fn describe(fd: impl AsFd) -> String {
    let id = names(fd);
    format!("{} {}", id.cookie.unwrap_or(0), id.inode.unwrap_or(0))
}

impl Sandbox {
    fn keep(&mut self, name: &str, socket: impl Into<OwnedFd>) -> String {
        let socket = socket.into();
        let names = describe(&socket);
        self.sockets.insert(name.to_owned(), socket);
        names
    }

    /// Executes a command. Returns the answer.
    fn execute(&mut self, words: &[&str]) -> String {
        if words == ["hello"] {
            return "hello".to_owned();
        }
        let answer = self.connection(words).or_else(|| self.transfer(words)).or_else(|| self.process(words));
        answer.unwrap_or_else(|| panic!("unknown command {words:?}"))
    }

    /// Commands that create sockets.
    fn connection(&mut self, words: &[&str]) -> Option<String> {
        Some(match words {
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
                let answer = format!("{} {}", describe(&listener), listener.local_addr().expect("local"));
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
            _ => return None,
        })
    }

    /// Commands that use and close sockets.
    fn transfer(&mut self, words: &[&str]) -> Option<String> {
        Some(match words {
            ["recv", name, count] => {
                let mut left: usize = count.parse().expect("a number");
                while left > 0 {
                    let mut bytes = vec![0_u8; left.min(65536)];
                    let (have, _) = recv(&self.sockets[*name], &mut bytes[..], RecvFlags::empty()).expect("receives");
                    if have == 0 {
                        return Some("eof".to_owned());
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
            _ => return None,
        })
    }

    /// Commands about files, threads and processes.
    fn process(&mut self, words: &[&str]) -> Option<String> {
        Some(match words {
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
            // Acts as a goroutine with this id and creator, although this program has no goroutines.
            #[cfg(target_arch = "x86_64")]
            ["forge", goid, creator, act @ ..] => {
                let number = |word: &str| word.parse::<u64>().expect("a number");
                self.forge(&ForgedGoroutine::new(number(goid), number(creator)), act)
            }
            ["exit", code] => exit_group(code.parse().expect("a number")),
            ["exec-by-thread", program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments);
                let error =
                    thread::spawn(move || command.exec()).join().expect("the thread is replaced, or returns an error");
                format!("error {error}")
            }
            // The leader exits first with one code, another thread last with another code.
            ["leave", how @ ("thread" | "group"), leader, last] => {
                let (leader, last): (i32, i32) = (leader.parse().expect("a number"), last.parse().expect("a number"));
                let whole = *how == "group";
                assert_eq!(rustix::thread::gettid(), rustix::process::getpid(), "commands run in the first thread");
                thread::spawn(move || {
                    wait_for_zombie_leader();
                    if whole { exit_group(last) } else { exit_thread(last) }
                });
                exit_thread(leader)
            }
            _ => return None,
        })
    }
}

/// Connects from a given address and port.
fn connect_from(from: std::net::SocketAddr, to: std::net::SocketAddr) -> TcpStream {
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None).expect("a socket");
    rustix::net::bind(&socket, &from).expect("binds");
    rustix::net::connect(&socket, &to).expect("connects");
    socket.into()
}

/// Address of the forged `g`s: the same in every process.
#[cfg(target_arch = "x86_64")]
const FORGED_AT: u64 = 0xc0_0000_0000;

/// Offsets of `runtime.g` in Go 1.24 (tracer/src/source/ebpf/goroutine.rs).
#[cfg(target_arch = "x86_64")]
const GOID: u64 = 160;
#[cfg(target_arch = "x86_64")]
const PARENT_GOID: u64 = 280;

/// Address of a forged `g`: the probes take it for a goroutine.
#[cfg(target_arch = "x86_64")]
struct ForgedGoroutine(u64);

#[cfg(target_arch = "x86_64")]
impl ForgedGoroutine {
    /// Writes a `g` with bounds around this thread's stack, this id and this creator (src/runtime/runtime2.go, Go
    /// 1.24).
    fn new(goid: u64, creator: u64) -> Self {
        let page = FORGED_AT as *mut libc::c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: nothing else in this process uses the page; a page from an earlier call is replaced.
        let mapped = unsafe { libc::mmap(page, 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert_eq!(mapped, page, "the page is mapped at its address");
        let here = std::ptr::from_ref(&page) as u64;
        let g = FORGED_AT + goid * 1024;
        for (offset, word) in [(0, here - (1 << 16)), (8, here + (1 << 16)), (GOID, goid), (PARENT_GOID, creator)] {
            // SAFETY: within the page: ids of tests are small.
            unsafe { ((g + offset) as *mut u64).write(word) };
        }
        Self(g)
    }

    /// Makes a system call with the forged `g` in its register.
    fn call(&self, number: i64, arguments: [u64; 4]) -> i64 {
        let result;
        // SAFETY: the arguments fit the call, and their pointees live; the compiler restores R14.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") arguments[0],
                in("rsi") arguments[1],
                in("rdx") arguments[2],
                in("r10") arguments[3],
                in("r8") 0_u64,
                in("r9") 0_u64,
                in("r14") self.0,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        result
    }
}

#[cfg(target_arch = "x86_64")]
impl Sandbox {
    /// Runs a command as the forged goroutine.
    fn forge(&mut self, g: &ForgedGoroutine, act: &[&str]) -> String {
        let mut byte = [7_u8];
        let bytes = byte.as_mut_ptr() as u64;
        let number = |fd: &OwnedFd| fd.as_raw_fd().cast_unsigned().into();
        let done = match act {
            ["recv", name] => g.call(libc::SYS_recvfrom, [number(&self.sockets[*name]), bytes, 1, 0]),
            ["send", name] => g.call(libc::SYS_sendto, [number(&self.sockets[*name]), bytes, 1, 0]),
            ["connect", name, to] => {
                let to: std::net::SocketAddrV4 = to.parse().expect("an address");
                let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
                let address = libc::sockaddr_in {
                    sin_family: 2,
                    sin_port: to.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                let connected = g.call(libc::SYS_connect, [number(&socket), &raw const address as u64, 16, 0]);
                assert_eq!(connected, 0, "connects");
                return self.keep(name, socket);
            }
            ["mknod", path] => {
                let path = std::ffi::CString::new(*path).expect("no NUL");
                let here = i64::from(libc::AT_FDCWD).cast_unsigned();
                let fifo = u64::from(libc::S_IFIFO | 0o600);
                g.call(libc::SYS_mknodat, [here, path.as_ptr() as u64, fifo, 0])
            }
            ["fork"] => match g.call(libc::SYS_fork, [0; 4]) {
                0 => exit_group(0),
                child => {
                    let child = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw).expect("a child");
                    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())
                        .expect("the child ends");
                    0
                }
            },
            ["copy", path, name] => {
                let mut fifo = std::fs::File::options().read(true).write(true).open(path).expect("opens");
                fifo.write_all(b"x").expect("there is room");
                let fifo: OwnedFd = fifo.into();
                assert_eq!(g.call(libc::SYS_read, [number(&fifo), bytes, 1, 0]), 1, "the written byte is read");
                g.call(libc::SYS_sendto, [number(&self.sockets[*name]), bytes, 1, 0])
            }
            other => panic!("unknown forged command {other:?}"),
        };
        format!("{done}")
    }
}

/// Waits until the first thread of this process is a zombie.
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
    // SAFETY: ends this thread alone; other threads use nothing of its stack.
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
