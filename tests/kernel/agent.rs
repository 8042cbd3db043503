//! A whole life of the agent on this kernel, in the strict sandbox: start, scrape, reload, end.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Stdio},
};

use execpath_tests::{
    binary,
    status::{Status, of_threads},
};

/// Capabilities of a live trace: see `confined.rs`.
const KEPT: u64 = 1 << 39 | 1 << 38 | 1 << 19 | 1 << 2;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("the endpoint reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: kill(2) reads and writes no memory; the child is not awaited yet, so its pid is its own.
    unsafe { libc::kill(i32::try_from(child.id()).expect("a pid"), signal) };
}

/// Number of observations in each part of the recording, in order.
fn parts(folder: &Path) -> Vec<usize> {
    let mut files: Vec<_> = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files.iter().map(|path| fs::read_to_string(path).expect("a part").lines().count()).collect()
}

#[test]
fn agent_records_serves_sends_reloads_and_drains() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    // A receiver that accepts and says nothing: the agent connects inside its sandbox.
    let collector = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let config = folder.path().join("agent.toml");
    let settings = |measure: &str| {
        format!(
            "record = \"{}\"\nrotate = \"100MB,keep=9\"\nmeasure = \"{measure}\"\nmetrics = \"{address}\"\notlp = \"{}\"\n",
            folder.path().join("node.jsonl").display(),
            collector.local_addr().expect("an address"),
        )
    };
    fs::write(&config, settings("5s")).expect("there is room");
    let manager = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    manager.set_read_timeout(Some(crate::trace::DEADLINE)).expect("a time");
    let mut buffer = [0; 500];
    let mut message = || {
        let bytes = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    };
    let mut agent = binary::command();
    agent
        .args(["agent", "--apiserver-port", "1", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", folder.path().join("notify"));
    let mut running = Running(agent.stderr(Stdio::inherit()).spawn().expect("execpath starts"));
    assert_eq!(message(), "READY=1\nSTATUS=tracing");
    let metrics = get(address, "/metrics");
    assert!(
        metrics.contains("execpath_up 1") && metrics.contains("execpath_sessions_open{kind=\"exec\"} "),
        "{metrics}"
    );
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    let filled = crate::wait::wait_for(crate::trace::DEADLINE, || {
        get(address, "/metrics").contains("execpath_map_capacity{map=\"WATCHED\"} 16384").then_some(())
    });
    assert!(filled.is_some(), "the fill of the maps is shown");
    // The threads of the network and of SIGHUP have no capability, the others have those of a trace, and all have the filter.
    let threads = of_threads(running.0.id());
    let mut capabilities: Vec<u64> = threads.iter().map(|status| status.capabilities).collect();
    capabilities.sort_unstable();
    assert_eq!(capabilities.iter().filter(|kept| **kept == 0).count(), 2, "{threads:?}");
    assert!(threads.iter().all(|Status { no_new_privs, seccomp, .. }| *no_new_privs && *seccomp == 2), "{threads:?}");
    assert!(capabilities.iter().all(|kept| [0, KEPT].contains(kept)), "{threads:?}");
    let before = parts(folder.path()).len();
    assert_eq!(before, 1);

    fs::write(&config, settings("10s")).expect("there is room");
    signal(&running.0, libc::SIGHUP);
    assert!(message().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(message(), "READY=1\nSTATUS=tracing");
    assert!(get(address, "/metrics").contains("execpath_up 1"), "the endpoint is served throughout");
    assert_eq!(parts(folder.path()).len(), 2, "the recording goes on in its next part");

    signal(&running.0, libc::SIGTERM);
    assert_eq!(message(), "STOPPING=1");
    assert_eq!(running.0.wait().expect("it ends").code(), Some(0));
    let lines = parts(folder.path());
    assert!(lines.iter().all(|lines| *lines > 1), "{lines:?}");
    for part in ["node.000001.jsonl", "node.000002.jsonl"] {
        let text = fs::read_to_string(folder.path().join(part)).expect("a part");
        assert!(text.lines().last().is_some_and(|line| line.contains("stopped")), "{part} is complete: {text}");
    }
}
