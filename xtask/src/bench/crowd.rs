//! Many processes with many sockets, in a separate network namespace.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::tools::{command, run};

/// Name of the namespace, as in `ip netns`.
const NETNS: &str = "execpath-bench";
/// Listeners of each member: one TCP, one unix. Connected pairs of both kinds follow in turn.
const LISTENERS: usize = 2;

/// A process of the crowd: opens sockets, reports that it is ready, and waits.
#[derive(clap::Args)]
pub(crate) struct Member {
    /// Number of sockets.
    sockets: usize,
}

/// Open sockets of one member.
#[derive(Default)]
struct Sockets {
    tcp: Vec<TcpStream>,
    unix: Vec<UnixStream>,
}

impl Member {
    pub(crate) fn run(self) -> Result<()> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let name = format!("execpath-bench-{}", std::process::id());
        let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let mut open = Sockets::default();
        while open.tcp.len() + open.unix.len() + LISTENERS < self.sockets {
            if open.tcp.len() <= open.unix.len() {
                let client = TcpStream::connect(tcp.local_addr()?)?;
                open.tcp.extend([client, tcp.accept()?.0]);
            } else {
                let client = UnixStream::connect_addr(&unix.local_addr()?)?;
                open.unix.extend([client, unix.accept()?.0]);
            }
        }
        rustix::io::write(std::io::stdout(), b".")?;
        // The read returns only at the end of input.
        std::io::stdin().read_exact(&mut [0]).or(Ok(()))
    }
}

/// Processes that end when this is dropped.
pub(super) struct Crowd {
    members: Vec<Child>,
    /// Closing it ends the members.
    stdin: Option<std::io::PipeWriter>,
}

impl Crowd {
    /// Moves the calling thread into the crowd's namespace and starts the members there.
    pub(super) fn start(processes: usize, sockets: usize) -> Result<Self> {
        // Of a run that was killed.
        drop(remove());
        run(command("ip").args(["netns", "add", NETNS]))?;
        run(command("ip").args(["-n", NETNS, "link", "set", "lo", "up"]))?;
        let netns = std::fs::File::open(Path::new("/run/netns").join(NETNS))?;
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).context("needs root")?;
        let (end, stdin) = std::io::pipe()?;
        let (mut ready, stdout) = std::io::pipe()?;
        let mut crowd = Self { members: Vec::new(), stdin: Some(stdin) };
        for each in 0..processes {
            // The rest goes to the first ones.
            let own = sockets / processes + usize::from(each < sockets % processes);
            let mut member = Command::new("/proc/self/exe");
            member.args(["bench", "member", &own.to_string()]).stdin(end.try_clone()?).stdout(stdout.try_clone()?);
            crowd.members.push(member.stderr(Stdio::inherit()).spawn()?);
        }
        drop((stdout, end));
        let mut dots = vec![0; processes];
        ready.read_exact(&mut dots).context("a process of the crowd failed")?;
        ensure!(crowd.members.len() == processes, "not all processes of the crowd started");
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.stdin.take());
        for member in &mut self.members {
            drop(member.wait());
        }
        drop(remove());
    }
}

fn remove() -> Result<String> {
    run(command("ip").args(["netns", "del", NETNS]))
}
