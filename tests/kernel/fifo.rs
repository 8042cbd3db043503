//! FIFOs of daemons.

use std::{io::Write, net::TcpStream};

use execpath::model::{Fact, Observation, SocketId, WatchAs};
use tracer_common::{FIFO_PATH_BYTES, Fifo, Kind};

use crate::{helper_process::HelperProcess, trace::Trace};

fn fifo(seen: &Observation) -> Option<(String, Option<SocketId>)> {
    match &seen.fact {
        Fact::FifoMade { path, inbound, .. } => Some((path.to_text().into_owned(), *inbound)),
        _ => None,
    }
}

#[test]
fn fifo_reports_path_and_inbound_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trace = Trace::on_ports(&[]);
    let mut daemon = HelperProcess::start();
    let listening = daemon.request("listen l 127.0.0.1:0");
    trace.watch(daemon.pid(), WatchAs::Daemon);
    let first = folder.path().join("first").to_string_lossy().into_owned();
    daemon.request(&format!("mknod fifo {first}"));
    assert_eq!(trace.wait("a FIFO", fifo), (first, None), "nothing was received before");
    trace.seen.clear();
    let mut client = TcpStream::connect(&listening[2]).expect("connects");
    let accepted = daemon.request("accept a l");
    client.write_all(b"POST").expect("sends");
    daemon.request("recv a 4");
    let second = folder.path().join("second").to_string_lossy().into_owned();
    daemon.request(&format!("mknod fifo {second}"));
    let number = |word: &String| word.parse().expect("a number");
    let inbound = SocketId::new(number(&accepted[0]), number(&accepted[1]));
    assert_eq!(trace.wait("a FIFO", fifo), (second, Some(inbound)));
    trace.seen.clear();
    daemon.request("close a");
    let third = folder.path().join("third").to_string_lossy().into_owned();
    daemon.request(&format!("mknod fifo {third}"));
    assert_eq!(trace.wait("a FIFO", fifo), (third, None), "a closed connection is forgotten");
}

#[test]
fn mknod_ignores_other_node_types_and_endpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let mut trace = Trace::on_ports(&[]);
    let (mut daemon, mut endpoint) = (HelperProcess::start(), HelperProcess::start());
    trace.watch(daemon.pid(), WatchAs::Daemon);
    trace.watch(endpoint.pid(), WatchAs::Endpoint);
    assert_eq!(daemon.request(&format!("mknod file {}", path("file"))), ["Ok(())"]);
    assert_eq!(daemon.request(&format!("mknod socket {}", path("socket"))), ["Ok(())"]);
    assert_eq!(endpoint.request(&format!("mknod fifo {}", path("fifo"))), ["Ok(())"]);
    trace.settle();
    assert_eq!(trace.facts(), Vec::<&Observation>::new());
}

#[test]
fn fifo_marks_truncated_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = format!("{}/", folder.path().display());
    let mut trace = Trace::on_ports(&[]);
    let mut daemon = HelperProcess::start();
    trace.watch(daemon.pid(), WatchAs::Daemon);
    // The last two bytes hold the name; `./` is free to resolve. One NUL is kept.
    for (len, truncated) in
        [(FIFO_PATH_BYTES - 2, false), (FIFO_PATH_BYTES - 1, false), (FIFO_PATH_BYTES, true), (900, true)]
    {
        trace.seen.clear();
        trace.raw.clear();
        let filler = len - prefix.len();
        let path = format!("{prefix}{}{}", "./".repeat(filler / 2 - 1), "f".repeat(filler % 2 + 2));
        assert_eq!(path.len(), len);
        daemon.request(&format!("mknod fifo {path}"));
        let (seen, _) = trace.wait("a FIFO", fifo);
        assert_eq!(seen, path[..len.min(FIFO_PATH_BYTES - 1)], "a path of {len} bytes");
        let record = trace.raw.iter().find(|raw| raw[..2] == (Kind::Fifo as u16).to_ne_bytes()).expect("a record");
        let at = std::mem::offset_of!(Fifo, path) + 4;
        let marked = u32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(marked, u32::from(truncated), "a path of {len} bytes");
    }
}
