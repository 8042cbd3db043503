//! Rates of programs that have nothing to do with the path, with and without a tracer: what a tracer costs its host.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::table::{Row, median, spread};
use crate::progress::Progress;
use crate::tools::{find, run};
use crate::tracer::Tracer;

/// Interleaved runs of each.
const RUNS: usize = 7;
/// Duration of one run.
const RUN: Duration = Duration::from_millis(1_500);
/// Least share of the rate that is left with a tracer.
const LEAST: f64 = 0.99;

/// A stranger's work.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Work {
    /// One byte back and forth on a loopback connection.
    PingPong,
    /// New loopback connections.
    Connect,
    /// New processes that run a program.
    Exec,
}

/// A stranger: works for a while, and prints the number of its rounds.
#[derive(clap::Args)]
pub(crate) struct Stranger {
    work: Work,
}

impl Stranger {
    pub(crate) fn run(self) -> Result<()> {
        let rounds = match self.work {
            Work::PingPong => ping_pong()?,
            Work::Connect => connect()?,
            Work::Exec => exec()?,
        };
        Ok(writeln!(std::io::stdout(), "{rounds}")?)
    }
}

fn rounds(mut round: impl FnMut() -> Result<()>) -> Result<u64> {
    let (begin, mut rounds) = (Instant::now(), 0);
    while begin.elapsed() < RUN {
        round()?;
        rounds += 1;
    }
    Ok(rounds)
}

fn ping_pong() -> Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
    }
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let count = rounds(|| {
        near.write_all(b".")?;
        Ok(near.read_exact(&mut [0])?)
    });
    drop(near);
    echo.join().map_err(|_panic| anyhow::anyhow!("the other end panicked"))?;
    count
}

fn connect() -> Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    rounds(|| {
        let near = TcpStream::connect(address)?;
        drop((listener.accept()?, near));
        Ok(())
    })
}

fn exec() -> Result<u64> {
    rounds(|| {
        ensure!(Command::new("/bin/true").status()?.success(), "/bin/true failed");
        Ok(())
    })
}

/// Runs each work once.
pub(super) fn work() -> Result<()> {
    for work in [Work::PingPong, Work::Connect, Work::Exec] {
        rate(&mut stranger(work)?)?;
    }
    Ok(())
}

/// Another way to see the same facts.
struct Rival {
    name: &'static str,
    package: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    /// True if the stranger is started by the rival; else the rival watches the whole host.
    starts: bool,
}

const RIVALS: [Rival; 3] = [
    Rival { name: "bpftrace", package: "bpftrace", program: "bpftrace", args: &["-e", BPFTRACE], starts: false },
    Rival {
        name: "perf trace",
        package: "linux-perf",
        program: "perf",
        args: &["trace", "-a", "-o", "/dev/null", "-e", SYSCALLS],
        starts: false,
    },
    Rival {
        name: "strace -f",
        package: "strace",
        program: "strace",
        args: &["-f", "-o", "/dev/null", "-e", SYSCALLS],
        starts: true,
    },
];

/// System calls that begin, end and use connections, and start processes.
const SYSCALLS: &str = "connect,accept4,close,sendto,recvfrom,read,write,clone,vfork,execve,exit_group";

/// The facts of [`SYSCALLS`] by tracepoints, printed for every process.
const BPFTRACE: &str = "\
tracepoint:sock:inet_sock_set_state { printf(\"%d %d %d\\n\", pid, args->oldstate, args->newstate); } \
tracepoint:syscalls:sys_enter_connect,tracepoint:syscalls:sys_enter_accept4 { printf(\"%d %d\\n\", pid, tid); } \
kprobe:tcp_sendmsg,kprobe:tcp_recvmsg { @[pid, arg0] = count(); } \
tracepoint:sched:sched_process_fork,tracepoint:sched:sched_process_exec,tracepoint:sched:sched_process_exit \
{ printf(\"%d %s\\n\", pid, comm); }";

/// Measures all work with execpath and its rivals.
pub(super) fn rows(program: &Path, progress: &Progress) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (work, name) in
        [(Work::PingPong, "loopback ping-pong"), (Work::Connect, "connect and accept"), (Work::Exec, "fork and exec")]
    {
        progress.report(format!("strangers: {name}"));
        let traced = shares(work, || {
            let folder = tempfile::tempdir()?;
            let tracer = Tracer::start(program, &folder.path().join("recording.jsonl.zst"))?;
            let rate = rate(&mut stranger(work)?)?;
            tracer.finish()?;
            Ok(rate)
        })?;
        let mut others = Vec::new();
        for rival in &RIVALS {
            if find(rival.program).is_none() && crate::apt::install(&[rival.package], progress).is_err() {
                others.push(format!("{}: not installed", rival.name));
                continue;
            }
            match shares(work, || rival.rate(work)) {
                Ok(shares) => others.push(format!("{} {:.2}", rival.name, median(&shares))),
                Err(error) => others.push(format!("{}: {error}", rival.name).replace('\n', " ")),
            }
        }
        let share = median(&traced);
        rows.push(Row {
            what: format!("{name} of strangers: rate with / without"),
            ours: format!("{share:.3}"),
            rival: others.join(", "),
            ratio: None,
            spread: Some(spread(&traced)),
            target: "≥ 0.99",
            reached: Some(share >= LEAST),
        });
    }
    Ok(rows)
}

/// Rates with a tracer, each divided by the rate without one right before.
fn shares(work: Work, mut traced: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    (0..RUNS)
        .map(|_| {
            let without = rate(&mut stranger(work)?)?;
            Ok(traced()? / without)
        })
        .collect()
}

/// Name of a work for the command line.
fn token(work: Work) -> &'static str {
    match work {
        Work::PingPong => "ping-pong",
        Work::Connect => "connect",
        Work::Exec => "exec",
    }
}

fn stranger(work: Work) -> Result<Command> {
    let mut stranger = Command::new(std::fs::read_link("/proc/self/exe")?);
    stranger.args(["bench", "stranger", token(work)]);
    Ok(stranger)
}

fn rate(stranger: &mut Command) -> Result<f64> {
    let rounds = run(stranger)?;
    rounds.trim().parse().with_context(|| format!("not a number of rounds: {rounds}"))
}

impl Rival {
    fn rate(&self, work: Work) -> Result<f64> {
        if self.starts {
            let mut both = Command::new(self.program);
            let stranger = stranger(work)?;
            return rate(both.args(self.args).arg("--").arg(stranger.get_program()).args(stranger.get_args()));
        }
        let mut watch = Command::new(self.program);
        watch.args(self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut watch = Running(watch.spawn().with_context(|| format!("cannot start {}", self.name))?);
        // Both need a moment to attach, and neither tells when it is done.
        thread::sleep(Duration::from_secs(2));
        ensure!(watch.0.try_wait()?.is_none(), "it does not run here");
        rate(&mut stranger(work)?)
    }
}

/// A process that is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
