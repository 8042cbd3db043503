//! Plays kubectl: `demo-kubectl exec POD -c CONTAINER -- COMMAND…`.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::ExitCode,
};

use crate::demo::wire::{APISERVER, Channel, Head, query, read_frame, request, write_frame};

pub(super) fn play(arguments: &[String]) -> io::Result<ExitCode> {
    let command = arguments.split(|word| word == "--").skip(1).collect::<Vec<_>>().join(&"--".to_owned());
    let path = format!("/api/v1/namespaces/demo/pods/miniature/exec?container=web&{}", query(&command));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, APISERVER))?;
    stream.write_all(request(&path).as_bytes())?;
    let head = Head::read(&mut stream)?;
    let mut sender = stream.try_clone()?;
    let mut stream = head.bytes[head.length..].chain(&stream);
    if !head.is_upgraded() {
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        return Err(io::Error::other(format!("{}: {text}", head.first)));
    }
    write_frame(&mut sender, Channel::Streams, b"stdout stderr")?;
    let mut out = io::stdout();
    loop {
        match read_frame(&mut stream)? {
            // Both go to stdout: the demo does not distinguish them.
            (Channel::Stdout | Channel::Stderr, bytes) => {
                out.write_all(&bytes)?;
                out.flush()?;
            }
            (Channel::Streams, _) => return Err(io::Error::other("the server wants streams")),
            (Channel::Exit, code) => {
                let code = String::from_utf8_lossy(&code).parse::<u8>().map_err(io::Error::other)?;
                return Ok(ExitCode::from(code));
            }
        }
    }
}
