//! Plays API server and kubelet: relays connections to the next actor in both directions, until either end closes.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
};

use super::ready::ready;
use crate::demo::{
    dir::DemoDir,
    wire::{APISERVER, ExecRequest, ExecResponse, Head, KUBELET, Lines, command, query, relay, request},
};

/// Target of a request: a port, and the path there.
type Next = dyn Fn(&Head) -> io::Result<(u16, String)> + Send + Sync;

pub(super) fn apiserver() -> io::Result<ExitCode> {
    let next = |head: &Head| Ok((KUBELET, format!("/exec/demo/miniature/web?{}", query(&command(head.path())))));
    serve(APISERVER, Arc::new(next))
}

pub(super) fn kubelet(dir: &DemoDir) -> io::Result<ExitCode> {
    let container = dir.container();
    let runtime = cri(UnixStream::connect(dir.runtime_socket())?)?;
    serve(
        KUBELET,
        Arc::new(move |head: &Head| {
            let request = ExecRequest { container_id: container.clone(), cmd: command(head.path()) };
            let (answer, answers) = channel();
            runtime.send((request, answer)).map_err(io::Error::other)?;
            let url = answers.recv().map_err(io::Error::other)??.url;
            let rest = url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once('/'));
            let (port, path) = rest.ok_or_else(|| io::Error::other("the runtime's answer makes no sense"))?;
            Ok((port.parse().map_err(io::Error::other)?, format!("/{path}")))
        }),
    )
}

type Answer = Sender<io::Result<ExecResponse>>;

/// Serves the permanent connection to the runtime in its own thread, as gRPC does in goroutines.
fn cri(stream: UnixStream) -> io::Result<Sender<(ExecRequest, Answer)>> {
    let mut lines = Lines::new(stream)?;
    let (sender, requests) = channel::<(ExecRequest, Answer)>();
    thread::spawn(move || {
        for (request, answer) in requests {
            let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let response = lines.write(&request).and_then(|()| lines.read()?.ok_or_else(gone));
            drop(answer.send(response));
        }
    });
    Ok(sender)
}

fn serve(port: u16, next: Arc<Next>) -> io::Result<ExitCode> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    ready()?;
    for stream in listener.incoming() {
        let (stream, next) = (stream?, Arc::clone(&next));
        thread::spawn(move || {
            let mut near = stream;
            if let Err(error) = pass(&mut near, &*next) {
                drop(write!(near, "HTTP/1.1 502 Bad Gateway\r\n\r\n{error}"));
            }
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Handles a request. One thread reads it, dials, and passes on the response, which is the evidence that pairs both
/// connections.
fn pass(near: &mut TcpStream, next: &Next) -> io::Result<()> {
    let head = Head::read(near)?;
    let (port, path) = next(&head)?;
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    far.write_all(request(&path).as_bytes())?;
    let answer = Head::read(&mut far)?;
    near.write_all(&answer.bytes)?;
    relay(near.try_clone()?, far)
}
