//! The real tracer as a guard: it is started, read and ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use execpath_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    env::{POLL_INTERVAL, TIMEOUT, wait_until},
    faults::codes,
    reported::ReportedSession,
};

/// Time that an interrupted tracer gets to write its recording after a failure.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A line of `-o jsonl`.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) value: Value,
    pub(crate) arrived: SystemTime,
}

#[derive(Default)]
struct Lines {
    all: Mutex<Vec<Line>>,
    more: Condvar,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running `execpath trace -o jsonl --record …`, killed on drop.
pub(crate) struct Tracer {
    child: Child,
    arguments: Vec<String>,
    folder: TempDir,
    lines: Arc<Lines>,
    reader: Option<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

/// Lines and files of a finished tracer.
pub(crate) struct Trace {
    pub(crate) lines: Vec<Line>,
    folder: TempDir,
}

impl Tracer {
    /// Starts a tracer; the probes are attached on return.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let recording = folder.path().join("recording.jsonl.zst");
        Self::run(folder, &["--record".as_ref(), recording.as_ref()], arguments)
    }

    /// Starts a reader of a cluster's stream.
    pub(crate) fn follow(address: &str) -> Self {
        Self::run(tempfile::tempdir().expect("a folder"), &["--from".as_ref(), address.as_ref()], &[])
    }

    fn run(folder: TempDir, files: &[&OsStr], arguments: &[&str]) -> Self {
        let stderr = fs::File::create(folder.path().join("stderr")).expect("a file");
        let mut child = binary::command()
            .args(["trace", "-o", "jsonl"])
            .args(files)
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("execpath starts");
        let lines = Arc::new(Lines::default());
        let reader = read(child.stdout.take().expect("a pipe"), Arc::clone(&lines));
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let mut tracer = Self { child, arguments, folder, lines, reader: Some(reader), ended: None };
        tracer.wait("the tracer is ready", |lines| (!lines.is_empty()).then_some(()));
        tracer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of a file that the tracer writes.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until `look` finds a value in the lines printed so far.
    pub(crate) fn wait<T>(&mut self, what: &str, look: impl Fn(&[Line]) -> Option<T>) -> T {
        let end = Instant::now() + TIMEOUT;
        let lines = Arc::clone(&self.lines);
        let mut seen = lines.lock();
        loop {
            if let Some(found) = look(&seen) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            let gone = self.reader.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(!left.is_zero() && !gone, "no result: {what}; {}", self.describe(&seen));
            // The end of the reader thread sends no notification: check it at intervals.
            let pause = left.min(Duration::from_millis(200));
            seen = lines.more.wait_timeout(seen, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the session with this mark satisfies `is`.
    pub(crate) fn wait_for(
        &mut self,
        mark: &str,
        what: &str,
        is: impl Fn(&ReportedSession) -> bool,
    ) -> ReportedSession {
        self.wait(&format!("the session of {mark} {what}"), |lines| {
            sessions(lines).into_values().find(|session| session.has(mark) && is(session))
        })
    }

    /// Waits until the tracer exits by itself.
    pub(crate) fn end(mut self) -> Trace {
        self.close_silent()
    }

    /// Interrupts a reader, which names the hosts on stderr and writes no recording.
    pub(crate) fn stop(mut self) -> Trace {
        self.signal(Signal::INT);
        self.close()
    }

    /// Interrupts the tracer as Ctrl-C does, and replays its recording: the replay prints the same lines, byte for
    /// byte.
    pub(crate) fn finish(mut self) -> Trace {
        self.signal(Signal::INT);
        let arguments = self.arguments.clone();
        let trace = self.close_silent();
        trace.replays(&arguments);
        trace
    }

    /// Kills the tracer, so that it cannot clean up.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended = Some(self.child.wait().expect("a child of ours"));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // A child that was not reaped keeps its pid.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("a child of ours");
    }

    fn close(&mut self) -> Trace {
        let status = wait_until("the tracer ends", || self.child.try_wait().expect("a child of ours"));
        self.ended = Some(status);
        self.reader.take().expect("not ended before").join().expect("the reader thread ends");
        let lines = std::mem::take(&mut *self.lines.lock());
        assert_eq!(status.code(), Some(0), "{}", self.describe(&lines));
        assert_eq!(lines.last().expect("a line").value["type"], "end", "{}", self.describe(&lines));
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        Trace { lines, folder }
    }

    fn close_silent(&mut self) -> Trace {
        let trace = self.close();
        assert_eq!(trace.read("stderr"), "", "a tracer without problems prints nothing to stderr");
        trace
    }

    fn describe(&self, lines: &[Line]) -> String {
        let stderr = fs::read_to_string(self.file("stderr")).unwrap_or_default();
        let tail = lines.iter().rev().take(6).rev().map(|line| line.text.as_str());
        format!("stderr: {stderr}\n{} lines, the last:\n{}", lines.len(), tail.collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if std::thread::panicking() {
            // An interrupted tracer writes the rest of its recording.
            self.signal(Signal::INT);
            let end = Instant::now() + LAST_WORDS;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
        keep_after_failure(&mut self.folder);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        keep_after_failure(&mut self.folder);
    }
}

/// Keeps the recording of a failed test, to replay it.
fn keep_after_failure(folder: &mut TempDir) {
    if std::thread::panicking() {
        folder.disable_cleanup(true);
        eprintln!("the tracer's files are kept in {}", folder.path().display());
    }
}

fn read(stdout: ChildStdout, lines: Arc<Lines>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for text in BufReader::new(stdout).lines() {
            let (text, arrived) = (text.expect("UTF-8"), SystemTime::now());
            let value = serde_json::from_str(&text).expect("each line is JSON");
            lines.lock().push(Line { text, value, arrived });
            lines.more.notify_all();
        }
    })
}

/// Sessions by id, as last reported, without provisional sessions of a waiting kubectl.
pub(crate) fn sessions(lines: &[Line]) -> BTreeMap<String, ReportedSession> {
    let mut all = reported(lines);
    all.retain(|_, session| !session.was_waited_for());
    all
}

fn reported(lines: &[Line]) -> BTreeMap<String, ReportedSession> {
    let reported = lines.iter().filter_map(|line| ReportedSession::of(&line.value));
    reported.map(|session| (session.id().to_owned(), session)).collect()
}

impl Trace {
    /// Sessions, as last reported.
    pub(crate) fn sessions(&self) -> Vec<ReportedSession> {
        sessions(&self.lines).into_values().collect()
    }

    /// The only session with this mark.
    pub(crate) fn session(&self, mark: &str) -> ReportedSession {
        let mut marked = self.sessions().into_iter().filter(|session| session.has(mark));
        let session = marked.next().expect("a session with that mark");
        assert!(marked.next().is_none(), "{mark} has two sessions");
        session
    }

    /// Checks that the trace has exactly one session per mark, no invented session, and no lost or late record.
    /// Excluded are sessions of other users of the lab, and probes already in progress at attach.
    pub(crate) fn holds_only(&self, marks: &[String]) {
        let sessions = self.sessions();
        let (anothers, sessions): (Vec<ReportedSession>, Vec<ReportedSession>) =
            sessions.into_iter().partition(|session| session.is_anothers() || session.was_under_way());
        let strangers: Vec<&ReportedSession> =
            sessions.iter().filter(|session| !marks.iter().any(|mark| session.has(mark))).collect();
        assert!(strangers.is_empty(), "invented: {strangers:?}");
        for mark in marks {
            let of_mark = sessions.iter().filter(|session| session.has(mark)).count();
            assert_eq!(of_mark, 1, "sessions of {mark}");
        }
        let stood_in: Vec<ReportedSession> =
            reported(&self.lines).into_values().filter(ReportedSession::was_waited_for).collect();
        for part in &stood_in {
            let names = |session: &ReportedSession| part.merged_into() == Some(session.id());
            assert!(
                sessions.iter().chain(&anothers).any(names),
                "a provisional session names no known session: {part:?}"
            );
        }
        let opened: BTreeSet<&str> = self
            .lines
            .iter()
            .filter(|line| line.value["type"] == "session.opened")
            .filter_map(|line| line.value["session"]["id"].as_str())
            .collect();
        assert_eq!(opened.len(), marks.len() + anothers.len() + stood_in.len(), "each session opens once");
        self.lost_nothing();
    }

    pub(crate) fn lost_nothing(&self) {
        let totals = &self.lines.last().expect("a line").value["totals"];
        assert_eq!((&totals["lost"], &totals["late"]), (&serde_json::json!({}), &serde_json::json!(0)));
    }

    /// Path of a file that the tracer wrote.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Content of a file that the tracer wrote.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("a file of the tracer's")
    }

    /// The decompressed recording.
    pub(crate) fn recording(&self) -> String {
        let bytes = fs::read(self.folder.path().join("recording.jsonl.zst")).expect("a recording");
        String::from_utf8(zstd::decode_all(bytes.as_slice()).expect("zstd")).expect("UTF-8")
    }

    /// Diagnoses the session with this mark from the recording. Returns the exit code and the codes of the named
    /// faults.
    pub(crate) fn faults(&self, mark: &str) -> (Option<i32>, Vec<String>) {
        let recording = self.path("recording.jsonl.zst");
        let id = self.session(mark).id().to_owned();
        let ran = binary::run([
            OsStr::new("diagnose"),
            id.as_ref(),
            "--from".as_ref(),
            recording.as_ref(),
            "-o".as_ref(),
            "json".as_ref(),
        ]);
        let found: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
        (ran.code, codes(&found))
    }

    fn replays(&self, arguments: &[String]) {
        let mut replay = binary::command();
        replay.args(["replay", "-o", "jsonl"]).arg(self.folder.path().join("recording.jsonl.zst"));
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            // The replay gets the options that select sessions; options that change the findings are stored in the
            // recording.
            if ["--namespace", "--pod", "--container", "--kind"].contains(&word.as_str()) {
                replay.arg(word).args(words.next());
            }
        }
        let again = binary::finish(&mut replay);
        let live: String = self.lines.iter().map(|line| line.text.clone() + "\n").collect();
        for (number, (live, again)) in live.lines().zip(again.stdout.lines()).enumerate() {
            assert_eq!(live, again, "line {number} of the replay");
        }
        assert_eq!(live, again.stdout, "a replay shows what was shown live");
    }
}
