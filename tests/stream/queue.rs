//! Batches wait on disk while the server is away: over its restart, over the publisher's, and within bounds.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use execpath::{
    model::{Fact, Observation, Report},
    record::{MAX_BATCH, Reader, Written},
    sink::{Header, Sink},
    stream::{Assembly, Disk, Files, Message, Run},
};
use execpath_tests::{
    binary::{self, run},
    nats::{Down, Raw, Server, is_installed},
    publishing::{feed_pieces, often, publisher, run_of},
    wait::until,
};

use serde_json::Value;

use crate::publish::{Kept, feed};

/// Pieces of the recording, and those before which the server goes away and is back. Most of its sessions begin between.
const PIECES: usize = 12;
const AWAY: usize = 4;
const BACK: usize = 9;

/// Room for everything.
const LARGE: u64 = 64 << 20;

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/hosts/all.jsonl.zst")
}

fn disk(folder: &tempfile::TempDir, bytes: u64) -> Disk {
    Disk { folder: folder.path().join("queue"), bytes }
}

/// Bytes of all files of a queue.
fn waiting(disk: &Disk) -> u64 {
    let files = fs::read_dir(&disk.folder).expect("the folder");
    let files = files.map(|file| file.expect("a file").path());
    let queue = files.filter(|path| path.extension().is_some_and(|ending| ending == "queue"));
    queue.map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum()
}

fn sessions(of: &str) -> String {
    let ran = run(["replay", of, "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.len() > 10_000, "{}", ran.stdout);
    ran.stdout
}

fn sessions_of_file() -> String {
    sessions(recording().to_str().expect("a path"))
}

/// A publisher in a process of its own, which has fed half of the recording.
struct Publishing {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Publishing {
    fn start(address: &str, began: u64, disk: &Disk) -> Self {
        let mut child = Command::new(binary::path().with_file_name("publishing"))
            .args([address, recording().to_str().expect("a path"), &began.to_string()])
            .arg(&disk.folder)
            .arg(disk.bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut publishing = Self { child, input, output: BufReader::new(output) };
        assert_eq!(publishing.line(), "half\n");
        publishing
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line
    }

    /// Feeds the other half. Returns the number of observations that were not delivered.
    fn finish(mut self) -> u64 {
        writeln!(self.input).expect("a reader");
        let line = self.line();
        assert!(self.child.wait().expect("an end").success(), "{line}");
        line.trim().split_once(' ').expect("two numbers").1.parse().expect("a number")
    }

    /// Kills the process.
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("an end");
    }
}

/// The frames of the recording, and how many of them are complete after its half.
fn frames() -> (Vec<Vec<u8>>, usize) {
    let kept = Kept::of(usize::MAX);
    let mut half = 0;
    feed(&recording(), Box::new(kept.clone()), often(), || half = kept.frames().len());
    (kept.frames(), half)
}

/// Payloads of one run, in the order of the stream. Their numbers are checked.
fn of_run<'a>(messages: &'a [Raw], run: &Run) -> Vec<&'a [u8]> {
    let id = format!("{}.{}.", run.boot_id, run.began);
    let own = messages.iter().filter(|message| message.id.starts_with(&id));
    own.enumerate()
        .map(|(number, message)| {
            assert_eq!(message.id, format!("{id}{number}"));
            message.payload.as_slice()
        })
        .collect()
}

/// Observations of messages, without those that a later part repeats.
fn observations(messages: &[Raw], run: &Run) -> Vec<Observation> {
    let (id, mut assembly) = (format!("{}.{}.", run.boot_id, run.began), Assembly::default());
    for (message, position) in messages.iter().zip(1..).filter(|(message, _)| message.id.starts_with(&id)) {
        let Raw { id, payload } = message;
        assert!(assembly.take(Message { host: &run.hostname, id, position, stored_ns: 1, payload }));
    }
    let host = assembly.finish().remove(0);
    assert_eq!((host.tally.damaged, &host.tally.damage), (0, &None));
    Reader::new(Box::new(io::Cursor::new(host.bytes))).expect("a recording").collect()
}

/// Bytes of the whole recording in a queue, roughly.
fn size() -> u64 {
    frames().0.iter().map(|frame| frame.len() as u64 + 28).sum()
}

/// Number of observations in all messages, each once: without those that a part repeats, and without the lines of the stream
/// itself.
fn recorded(messages: &[Raw]) -> u64 {
    let (mut count, mut repeated) = (0, 0);
    for message in messages {
        let text = zstd::bulk::decompress(&message.payload, MAX_BATCH).expect("a batch");
        for line in String::from_utf8(text).expect("text").lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            if line.get("execpath").is_some() {
                repeated = line["part"]["told_again"].as_u64().unwrap_or_default();
            } else if repeated > 0 {
                repeated -= 1;
            } else {
                let is_of_stream = line["fact"] == "continued" || line["fact"]["lost"]["what"] == "stream-full";
                count += u64::from(!is_of_stream);
            }
        }
    }
    count
}

/// Counts told by losses of the stream itself.
fn told<'a>(seen: impl IntoIterator<Item = &'a Observation>) -> Vec<u64> {
    let count = |seen: &Observation| {
        let Fact::Lost { what, count } = &seen.fact else { return None };
        (what == "stream-full").then_some(*count)
    };
    seen.into_iter().filter_map(count).collect()
}

#[test]
fn outage_of_server_changes_no_session() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (server, disk) = (Server::start(""), disk(&folder, LARGE));
    let address = server.address("outage");
    let publisher = publisher(&address, &Files::default(), &run_of(&recording()), Some(&disk));
    let (mut up, mut down) = (Some(server), None);
    let written = feed_pieces(&recording(), Box::new(publisher), often(), PIECES, Vec::new(), |piece| {
        if piece == AWAY {
            until("the queue is empty", || waiting(&disk) == 0);
            down = up.take().map(|server| server.stop(""));
        } else if piece == BACK {
            until("batches wait on disk", || waiting(&disk) > 10_000);
            up = down.take().map(Down::up);
            until("the queue is empty", || waiting(&disk) == 0);
        }
    });
    assert_eq!(written.undelivered, 0);
    assert_eq!(sessions(&address), sessions_of_file());
    assert_eq!(waiting(&disk), 0);
}

#[test]
fn killed_publisher_loses_no_batch_that_had_room() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (down, disk) = (Server::start("").stop(""), disk(&folder, LARGE));
    let address = down.address("killed");
    let (frames, half) = frames();
    assert!(half >= 10, "{half}");
    let publishing = Publishing::start(&address, 1, &disk);
    let expected: usize = frames.iter().take(half).map(|frame| frame.len() + 28).sum();
    until("the batches are on disk", || waiting(&disk) >= expected as u64);
    publishing.kill();
    let server = down.up();
    let publishing = Publishing::start(&address, 2, &disk);
    until("the queue is empty", || waiting(&disk) == 0);
    assert_eq!(publishing.finish(), 0);
    let (messages, run) = (server.messages("killed"), run_of(&recording()));
    assert_eq!(of_run(&messages, &run), frames[..half].iter().map(Vec::as_slice).collect::<Vec<_>>());
    let second = Run { began: 2, ..run };
    assert_eq!(of_run(&messages, &second).len(), frames.len());
    let is_second = |message: &Raw| message.id.starts_with(&format!("{}.2.", second.boot_id));
    assert_eq!(messages.iter().position(is_second), Some(half), "the earlier run comes first");
    assert_eq!(sessions(&address), sessions_of_file());
    assert_eq!(waiting(&disk), 0);
}

/// Counts what is not recorded, as the metrics do.
#[derive(Default)]
struct Counted(Arc<AtomicU64>);

impl Sink for Counted {
    fn host(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn unrecorded(&mut self, what: &str, observations: u64) {
        assert_eq!(what, "stream-full");
        self.0.fetch_add(observations, Ordering::Relaxed);
    }

    fn finish(&mut self, _report: &Report) -> io::Result<()> {
        Ok(())
    }
}

/// Feeds the recording with the server away for most of it, and a queue of this size. After that, the queue has time.
fn fed(cluster: &str, bytes: u64) -> (Written, u64, Vec<Raw>) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut down, disk) = (Some(Server::start("").stop("")), disk(&folder, bytes));
    let address = down.as_ref().expect("a server").address(cluster);
    let publisher = publisher(&address, &Files::default(), &run_of(&recording()), Some(&disk));
    let (counted, mut up) = (Arc::new(AtomicU64::new(0)), None);
    let sink: Box<dyn Sink> = Box::new(Counted(Arc::clone(&counted)));
    let written = feed_pieces(&recording(), Box::new(publisher), often(), PIECES, vec![sink], |piece| {
        if piece == BACK {
            assert!(waiting(&disk) <= bytes);
            up = down.take().map(Down::up);
        }
        if piece >= BACK {
            until("the queue is empty", || waiting(&disk) == 0);
        }
    });
    (written, counted.load(Ordering::Relaxed), up.expect("a server").messages(cluster))
}

#[test]
fn small_queue_counts_missing_observations_exactly() {
    if !is_installed() {
        return;
    }
    let all = Reader::open(&recording()).expect("a recording").count() as u64;
    let (written, counted, messages) = fed("small", size() / 4);
    assert!(written.undelivered > 20, "{written:?}");
    // Metrics, the stream itself, and the observations that are there: one truth.
    assert_eq!(counted, written.undelivered);
    let run = run_of(&recording());
    assert_eq!(told(&observations(&messages, &run)), [written.undelivered]);
    assert_eq!(recorded(&messages), all - written.undelivered);
    // The same with room.
    let (written, counted, messages) = fed("large", LARGE);
    assert_eq!((written.undelivered, counted, recorded(&messages)), (0, 0, all));
    assert_eq!(told(&observations(&messages, &run)), [0_u64; 0]);
}

#[test]
fn count_of_full_queue_reaches_next_run() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (down, disk) = (Server::start("").stop(""), disk(&folder, size() / 4));
    let (address, first) = (down.address("next"), run_of(&recording()));
    let started = publisher(&address, &Files::default(), &first, Some(&disk));
    let written = feed(&recording(), Box::new(started), often(), || {});
    assert!(written.undelivered > 100, "{written:?}");
    let server = down.up();
    let second = Run { began: 2, ..first.clone() };
    let started = publisher(&address, &Files::default(), &second, Some(&disk));
    let again = feed_pieces(&recording(), Box::new(started), often(), PIECES, Vec::new(), |_| {
        until("the queue is empty", || waiting(&disk) == 0);
    });
    let messages = server.messages("next");
    let kept = observations(&messages, &first).len() as u64;
    let counts = told(&observations(&messages, &second));
    assert_eq!(counts.iter().sum::<u64>(), written.undelivered + again.undelivered);
    let all = Reader::open(&recording()).expect("a recording").count() as u64;
    assert_eq!(kept + written.undelivered, all);
}
