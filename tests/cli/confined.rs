//! Gives up rights as a command does, tries forbidden and permitted acts, and prints one line for each: its name, and `ok` or the error.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use execpath::confine::{self, Denied, Net, Settings};
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with},
    thread::{UnshareFlags, unshare_unsafe},
};

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (work, folder) = (words.first().map(String::as_str), words.get(1).map(PathBuf::from).unwrap_or_default());
    let denied = if words.iter().any(|word| word == "kill") { Denied::Kill } else { Denied::Error };
    confine::enable(Settings { denied, has_children: false });
    match work {
        Some("files") => files(&folder),
        Some("look") => look(Net::default()),
        Some("serve") => look(Net { serves: true, connects: false }),
        Some("export") => look(Net { serves: true, connects: true }),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Prints the outcome of one act.
fn report<T>(what: &str, outcome: io::Result<T>) -> io::Result<()> {
    let text = match &outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    writeln!(io::stdout(), "{what}: {text}")
}

/// Creates a file as commands do: for writing alone.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

fn files(folder: &Path) -> io::Result<()> {
    let (input, output) = (folder.join("input"), folder.join("out/output"));
    confine::to_files(&[&input], &[&output]);
    report("read the input", fs::read(&input))?;
    report("create the output", create(&output))?;
    report("read another file", fs::read(folder.join("other")))?;
    report("write the input", File::options().write(true).open(&input))?;
    report("create another file", create(&folder.join("new")))?;
    report("remove the input", fs::remove_file(&input))?;
    report("list the folder", fs::read_dir(folder))?;
    common()
}

fn look(net: Net) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    confine::to_look(None, net);
    let diag = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG));
    report("open sock_diag", diag.map_err(io::Error::from))?;
    report("start a thread", thread::Builder::new().spawn(|| ()).map(thread::JoinHandle::join))?;
    report("accept a connection", listener.accept())?;
    drop(near);
    let datagrams = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    report("open a datagram socket", datagrams.map_err(io::Error::from))?;
    let unix = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    report("open a unix socket", unix.map_err(io::Error::from))?;
    let listening =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG));
    report("listen", listening.and_then(|socket| rustix::net::listen(socket, 1)).map_err(io::Error::from))?;
    common()
}

/// Acts that every confined command is refused.
fn common() -> io::Result<()> {
    report("connect", TcpStream::connect("127.0.0.1:1"))?;
    report("execute", Command::new("/bin/true").status())?;
    // SAFETY: nothing is shared with other threads here.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWUSER) };
    report("make a user namespace", unshared.map_err(io::Error::from))?;
    let traced = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: PTRACE_SEIZE (0x4206) of this process reads and writes no memory.
    let seized = unsafe { libc::syscall(libc::SYS_ptrace, 0x4206, traced, 0, 0) };
    report("trace a process", if seized == -1 { Err(io::Error::last_os_error()) } else { Ok(()) })?;
    report(
        "mount",
        rustix::mount::mount("none", "/mnt", "tmpfs", rustix::mount::MountFlags::empty(), None)
            .map_err(io::Error::from),
    )
}
