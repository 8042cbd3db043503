//! A whole trace: connections older than it, and recordings cut off.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use execpath::{
    clock::now,
    model::{BootTime, Fact, Observation, SocketId, Span},
    record::{End, Reader},
};
use execpath_tests::binary;

use crate::{helper_process::HelperProcess, trace::Trace};

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

/// A tracer, killed on drop.
struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        // The tracer may have exited already.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn trace_reports_close_of_older_connections() {
    let (mut client, mut server) = (HelperProcess::start(), HelperProcess::start());
    let listening = server.request("listen l 127.0.0.1:0");
    let (_, port) = listening[2].rsplit_once(':').expect("a port");
    let near = id(&client.request(&format!("connect a {}", listening[2])));
    let far = id(&server.request("accept a l"));
    let both: BTreeSet<u64> = [near, far].into_iter().filter_map(|id| id.cookie).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording.jsonl");
    let tracer = binary::command()
        .args(["trace", "-o", "jsonl", "--apiserver-port", port, "--record"])
        .arg(&recording)
        .stdout(Stdio::piped())
        .spawn()
        .expect("execpath starts");
    let mut tracer = Tracer(tracer);
    let mut stdout = BufReader::new(tracer.0.stdout.take().expect("stdout"));
    let mut header = String::new();
    stdout.read_line(&mut header).expect("the header");
    assert!(header.contains("host"), "the first line is the header: {header}");
    // Read on, so that the tracer is not blocked by other activity in this kernel.
    let rest = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    // A second tracer shows when the kernel has reported the closes.
    let mut own = Trace::on_ports(&[]);
    for (helper, socket) in [(&client, near), (&server, far)] {
        own.probes.track(socket, crate::trace::key(helper.pid()), None).expect("there is room");
    }
    client.request("close a");
    server.request("recv a 1");
    server.request("close a");
    for cookie in &both {
        own.wait("the close", |seen| closed(seen).filter(|seen| seen == cookie));
    }
    let pid = rustix::process::Pid::from_child(&tracer.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("execpath is running");
    tracer.0.wait().expect("execpath exits");
    rest.join().expect("ends").expect("stdout can be read");
    let text = std::fs::read_to_string(&recording).expect("a recording");
    let seen = text.lines().skip(1).map(|line| serde_json::from_str::<Observation>(line).expect("an observation"));
    let reported: BTreeSet<u64> =
        seen.filter_map(|seen| closed(&seen)).filter(|cookie| both.contains(cookie)).collect();
    assert_eq!(reported, both, "{text}");
}

/// Time of the latest observation in a recording, which may still be written, and the way the recording ends.
fn latest(path: &Path) -> Option<(BootTime, Option<End>)> {
    let mut reader = Reader::open(path).ok()?;
    let at = reader.by_ref().map(|seen| seen.at).max()?;
    Some((at, reader.end().cloned()))
}

#[test]
fn killed_recorder_loses_at_most_one_second() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a.jsonl", "a.jsonl.zst"] {
        let path = folder.path().join(name);
        let record = binary::command().arg("record").arg(&path).stdout(Stdio::null()).spawn();
        let mut recorder = Tracer(record.expect("execpath starts"));
        let begun = now();
        while latest(&path).is_none_or(|(at, _)| at.since(begun) < Span::from_secs(3)) {
            assert!(now().since(begun) < Span::from_secs(60), "nothing was recorded within 60 s");
            thread::sleep(Duration::from_millis(50));
        }
        let killed = now();
        recorder.0.kill().expect("execpath is running");
        recorder.0.wait().expect("execpath exits");
        let (last, end) = latest(&path).expect("a recording");
        assert!(matches!(end, Some(End::Cut { .. })), "{end:?}");
        // The writer flushes at the next tick, five times a second: allow for this delay, too.
        assert!(killed.since(last) < Span::from_millis(1_500), "the last {:?} are lost", killed.since(last));
        let ran = binary::run(["replay", &path.to_string_lossy()]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stderr.starts_with("notice: the recording is truncated after line "), "{}", ran.stderr);
    }
}
