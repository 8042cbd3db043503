//! A whole trace: what is older than it.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    thread,
};

use execpath::model::{Fact, Observation, SocketId};
use execpath_tests::binary;

use crate::{puppet::Puppet, trace::Trace};

fn id(words: &[String]) -> SocketId {
    let number = |word: &String| word.parse().expect("a number");
    SocketId::new(number(&words[0]), number(&words[1]))
}

fn closed(seen: &Observation) -> Option<u64> {
    match seen.fact {
        Fact::Closed { socket, .. } => socket.cookie,
        _ => None,
    }
}

/// Ends with the test, however that ends.
struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn a_trace_tells_the_end_of_connections_that_it_found() {
    let (mut client, mut server) = (Puppet::start(), Puppet::start());
    let listening = server.ask("listen l 127.0.0.1:0");
    let (_, port) = listening[2].rsplit_once(':').expect("a port");
    let near = id(&client.ask(&format!("connect a {}", listening[2])));
    let far = id(&server.ask("accept a l"));
    let both: BTreeSet<u64> = [near, far].into_iter().filter_map(|id| id.cookie).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording.jsonl");
    let tracer = binary::command()
        .args(["trace", "-o", "jsonl", "--apiserver-port", port, "--record"])
        .arg(&recording)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut tracer = Tracer(tracer);
    let mut stdout = BufReader::new(tracer.0.stdout.take().expect("stdout"));
    let mut header = String::new();
    stdout.read_line(&mut header).expect("what it says first");
    assert!(header.contains("host"), "it is ready: {header}");
    // Whatever else goes on in this kernel, it must not wait for a reader.
    let rest = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    // Another one, to know when the kernel has told the ends.
    let mut own = Trace::on_ports(&[]);
    for (puppet, socket) in [(&client, near), (&server, far)] {
        own.probes.track(socket, crate::trace::key(puppet.pid()), None).expect("there is room");
    }
    client.ask("close a");
    server.ask("recv a 1");
    server.ask("close a");
    for cookie in &both {
        own.wait("the close", |seen| closed(seen).filter(|seen| seen == cookie));
    }
    let pid = rustix::process::Pid::from_child(&tracer.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    tracer.0.wait().expect("it ends");
    rest.join().expect("ends").expect("stdout can be read");
    let text = std::fs::read_to_string(&recording).expect("a recording");
    let seen = text.lines().skip(1).map(|line| serde_json::from_str::<Observation>(line).expect("an observation"));
    let told: BTreeSet<u64> = seen.filter_map(|seen| closed(&seen)).filter(|cookie| both.contains(cookie)).collect();
    assert_eq!(told, both, "{text}");
}
