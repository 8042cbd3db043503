//! Plays containerd: returns an address to the kubelet, and streams the output from the shim's FIFOs to the client of
//! this address.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, mkfifoat, open};

use super::ready::ready;
use crate::demo::{
    dir::DemoDir,
    names::SHIM,
    sandbox,
    wire::{Channel, ExecRequest, ExecResponse, Head, Lines, ShimEvent, ShimExec, UPGRADED, read_frame, write_frame},
};

/// Commands waiting for their stream, by token.
type Tokens = Arc<Mutex<BTreeMap<String, Vec<String>>>>;
type Shim = Sender<(ShimExec, Sender<ShimEvent>)>;

pub(super) fn play(dir: &DemoDir) -> io::Result<ExitCode> {
    // The shim exits when its connection closes.
    let _shim = sandbox::start(dir, SHIM, &[])?;
    let shim = ttrpc(UnixStream::connect(dir.shim_socket())?)?;
    let streams = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = streams.local_addr()?.port();
    let tokens = Tokens::default();
    let calls = UnixListener::bind(dir.runtime_socket())?;
    let (of_calls, tokens_of_calls) = (dir.clone(), Arc::clone(&tokens));
    thread::spawn(move || {
        for call in calls.incoming().map_while(Result::ok) {
            let (dir, tokens) = (of_calls.clone(), Arc::clone(&tokens_of_calls));
            thread::spawn(move || answer(call, &dir, port, &tokens));
        }
    });
    ready()?;
    let execs = Arc::new(AtomicU64::new(1));
    for stream in streams.incoming() {
        let stream = stream?;
        let (dir, tokens, shim, execs) = (dir.clone(), Arc::clone(&tokens), shim.clone(), Arc::clone(&execs));
        thread::spawn(move || {
            let mut stream = stream;
            if let Err(error) = serve(&mut stream, &dir, &tokens, &shim, &execs) {
                drop(write!(stream, "HTTP/1.1 500 Internal Server Error\r\n\r\n{error}"));
            }
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers `Exec` of the CRI with an address that contains a token. The command starts later, with its stream.
fn answer(call: UnixStream, dir: &DemoDir, port: u16, tokens: &Tokens) -> io::Result<()> {
    let mut lines = Lines::new(call)?;
    let mut number = 0;
    while let Some(ExecRequest { cmd, .. }) = lines.read()? {
        number += 1;
        let token = dir.id("token", number)[..8].to_owned();
        let url = format!("http://127.0.0.1:{port}/exec/{token}");
        tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token, cmd);
        lines.write(&ExecResponse { url })?;
    }
    Ok(())
}

/// Serves the permanent connection to the shim in its own thread, as ttrpc does in goroutines.
fn ttrpc(stream: UnixStream) -> io::Result<Shim> {
    let mut lines = Lines::new(stream)?;
    let (sender, requests) = channel::<(ShimExec, Sender<ShimEvent>)>();
    thread::spawn(move || {
        for (exec, answer) in requests {
            let mut response = lines.write(&exec).and_then(|()| lines.read());
            while let Ok(Some(event)) = response {
                let last = !matches!(event, ShimEvent::Started { .. });
                if answer.send(event).is_err() || last {
                    break;
                }
                response = lines.read();
            }
        }
    });
    Ok(sender)
}

/// Serves one stream. The thread that reads the request also creates the FIFOs: this is the evidence that links
/// connection and exec.
fn serve(stream: &mut TcpStream, dir: &DemoDir, tokens: &Tokens, shim: &Shim, execs: &AtomicU64) -> io::Result<()> {
    let head = Head::read(stream)?;
    let token = head.path().strip_prefix("/exec/").unwrap_or_default();
    let args = tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    let args = args.ok_or_else(|| io::Error::other("no such token"))?;
    stream.write_all(UPGRADED.as_bytes())?;
    // As in the kubelet's streaming library, the command starts only after the client has opened its streams.
    let (Channel::Streams, _) = read_frame(stream)? else { return Err(io::Error::other("no streams were asked for")) };

    let number = execs.fetch_add(1, Ordering::Relaxed);
    let (exec, folder) = (dir.id("exec", number), dir.fifos(number));
    std::fs::create_dir_all(&folder)?;
    let fifo = |name: &str| {
        let path = folder.join(format!("{exec}-{name}"));
        make_fifo(&path).map(|file| (path.to_string_lossy().into_owned(), file))
    };
    let ((stdout, from_stdout), (stderr, from_stderr)) = (fifo("stdout")?, fifo("stderr")?);

    let (answer, response) = channel();
    shim.send((ShimExec { exec, stdout, stderr, args }, answer)).map_err(io::Error::other)?;
    let writer = Arc::new(Mutex::new(stream.try_clone()?));
    let code = match response.recv().map_err(io::Error::other)? {
        ShimEvent::Started { .. } => {
            let copies = [copy(from_stdout, Channel::Stdout, &writer)?, copy(from_stderr, Channel::Stderr, &writer)?];
            let exited = response.recv().map_err(io::Error::other)?;
            for copy in copies {
                drop(copy.join());
            }
            match exited {
                ShimEvent::Exited { code } => code,
                ShimEvent::Started { .. } | ShimEvent::Failed { .. } => return Err(io::Error::other("no exit code")),
            }
        }
        ShimEvent::Failed { why } => {
            write_frame(stream, Channel::Stderr, why.as_bytes())?;
            // Exit code of a shell for a command that cannot be executed.
            126
        }
        ShimEvent::Exited { .. } => return Err(io::Error::other("it ended before it began")),
    };
    write_frame(stream, Channel::Exit, code.to_string().as_bytes())?;
    stream.shutdown(Shutdown::Both)
}

/// Creates a FIFO and opens it without waiting for its writer: the shim opens it next.
fn make_fifo(path: &Path) -> io::Result<File> {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?))
}

/// Copies a FIFO to the stream, until its last writer closes it.
fn copy(fifo: File, channel: Channel, stream: &Arc<Mutex<TcpStream>>) -> io::Result<JoinHandle<()>> {
    // The writer has opened the FIFO: from here on, block while it is empty.
    fcntl_setfl(&fifo, OFlags::empty())?;
    let stream = Arc::clone(stream);
    Ok(thread::spawn(move || {
        let mut fifo = fifo;
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = fifo.read(&mut piece) {
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            if write_frame(&mut *stream, channel, &piece[..read]).is_err() {
                break;
            }
        }
    }))
}
