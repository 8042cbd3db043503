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

use super::ready;
use crate::demo::{
    names::SHIM,
    place::Place,
    stage,
    wire::{Channel, ExecRequest, ExecResponse, Head, Lines, ShimExec, ShimSays, UPGRADED, read_frame, write_frame},
};

/// Commands waiting for their stream, by token.
type Tokens = Arc<Mutex<BTreeMap<String, Vec<String>>>>;
type Shim = Sender<(ShimExec, Sender<ShimSays>)>;

pub(super) fn play(place: &Place) -> io::Result<ExitCode> {
    // The shim exits when its connection closes.
    let _shim = stage::start(place, SHIM, &[])?;
    let shim = ttrpc(UnixStream::connect(place.shim_socket())?)?;
    let streams = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = streams.local_addr()?.port();
    let tokens = Tokens::default();
    let calls = UnixListener::bind(place.runtime_socket())?;
    let (of_calls, tokens_of_calls) = (place.clone(), Arc::clone(&tokens));
    thread::spawn(move || {
        for call in calls.incoming().map_while(Result::ok) {
            let (place, tokens) = (of_calls.clone(), Arc::clone(&tokens_of_calls));
            thread::spawn(move || answer(call, &place, port, &tokens));
        }
    });
    ready()?;
    let execs = Arc::new(AtomicU64::new(1));
    for stream in streams.incoming() {
        let stream = stream?;
        let (place, tokens, shim, execs) = (place.clone(), Arc::clone(&tokens), shim.clone(), Arc::clone(&execs));
        thread::spawn(move || {
            let mut stream = stream;
            if let Err(error) = serve(&mut stream, &place, &tokens, &shim, &execs) {
                drop(write!(stream, "HTTP/1.1 500 Internal Server Error\r\n\r\n{error}"));
            }
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers `Exec` of the CRI with an address that contains a token. The command starts later, with its stream.
fn answer(call: UnixStream, place: &Place, port: u16, tokens: &Tokens) -> io::Result<()> {
    let mut lines = Lines::new(call)?;
    let mut number = 0;
    while let Some(ExecRequest { cmd, .. }) = lines.read()? {
        number += 1;
        let token = place.id("token", number)[..8].to_owned();
        let url = format!("http://127.0.0.1:{port}/exec/{token}");
        tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token, cmd);
        lines.write(&ExecResponse { url })?;
    }
    Ok(())
}

/// Serves the permanent connection to the shim in its own thread, as ttrpc does in goroutines.
fn ttrpc(stream: UnixStream) -> io::Result<Shim> {
    let mut lines = Lines::new(stream)?;
    let (sender, asked) = channel::<(ShimExec, Sender<ShimSays>)>();
    thread::spawn(move || {
        for (exec, answer) in asked {
            let mut said = lines.write(&exec).and_then(|()| lines.read());
            while let Ok(Some(word)) = said {
                let last = !matches!(word, ShimSays::Started { .. });
                if answer.send(word).is_err() || last {
                    break;
                }
                said = lines.read();
            }
        }
    });
    Ok(sender)
}

/// Serves one stream. The thread that reads the request also creates the FIFOs: this is the evidence that links
/// connection and exec.
fn serve(stream: &mut TcpStream, place: &Place, tokens: &Tokens, shim: &Shim, execs: &AtomicU64) -> io::Result<()> {
    let head = Head::read(stream)?;
    let token = head.path().strip_prefix("/exec/").unwrap_or_default();
    let args = tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    let args = args.ok_or_else(|| io::Error::other("no such token"))?;
    stream.write_all(UPGRADED.as_bytes())?;
    // As in the kubelet's streaming library, the command starts only after the client has opened its streams.
    let (Channel::Streams, _) = read_frame(stream)? else { return Err(io::Error::other("no streams were asked for")) };

    let number = execs.fetch_add(1, Ordering::Relaxed);
    let (exec, folder) = (place.id("exec", number), place.fifos(number));
    std::fs::create_dir_all(&folder)?;
    let fifo = |name: &str| {
        let path = folder.join(format!("{exec}-{name}"));
        make_fifo(&path).map(|file| (path.to_string_lossy().into_owned(), file))
    };
    let ((stdout, from_stdout), (stderr, from_stderr)) = (fifo("stdout")?, fifo("stderr")?);

    let (answer, said) = channel();
    shim.send((ShimExec { exec, stdout, stderr, args }, answer)).map_err(io::Error::other)?;
    let writer = Arc::new(Mutex::new(stream.try_clone()?));
    let code = match said.recv().map_err(io::Error::other)? {
        ShimSays::Started { .. } => {
            let copies = [copy(from_stdout, Channel::Stdout, &writer)?, copy(from_stderr, Channel::Stderr, &writer)?];
            let exited = said.recv().map_err(io::Error::other)?;
            for copy in copies {
                drop(copy.join());
            }
            match exited {
                ShimSays::Exited { code } => code,
                ShimSays::Started { .. } | ShimSays::Failed { .. } => return Err(io::Error::other("no exit code")),
            }
        }
        ShimSays::Failed { why } => {
            write_frame(stream, Channel::Stderr, why.as_bytes())?;
            // Exit code of a shell for a command that cannot be executed.
            126
        }
        ShimSays::Exited { .. } => return Err(io::Error::other("it ended before it began")),
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
