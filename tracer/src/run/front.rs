//! The front: starts the command and the observer, waits for the command, and asks the observer for the cause of a failure.
#![expect(clippy::disallowed_methods, reason = "edge: waits a bounded time for the observer")]

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    child::{self, NotStarted, Signals, Status},
    message::{Answer, OBSERVER, ToFront, ToObserver, send},
};

/// Longest wait for an observer that is ready. It answers within milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait with `wait`, for an observer that never becomes ready.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of the observer's messages.
const MAX_MESSAGES: usize = 64 << 10;
/// This program, even if its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A command to run, and what to ask about it.
pub struct Front<'a> {
    /// The command and its arguments.
    pub command: &'a [OsString],
    /// Arguments of this program, for the observer.
    pub arguments: &'a [OsString],
    /// Start the command only when the observer is ready.
    pub wait: bool,
    /// Ask the observer also after a success.
    pub doubts_success: bool,
}

/// Result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// End of the command.
    pub status: Status,
    /// The cause of a failure in one line, escaped for a terminal; empty after a success.
    pub cause: String,
    /// Set if the client reported success for a command that had not ended.
    pub lie: bool,
    /// Set if the recording was written.
    pub recorded: bool,
    /// Reason for a missing recording.
    pub not_recorded: Option<String>,
}

impl Front<'_> {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// When the command cannot be started. A missing observer is none.
    pub fn run(&self) -> Result<Outcome, NotStarted> {
        let signals = Signals::block().map_err(NotStarted::Signals)?;
        // The observer starts first only if the command waits for it: starting it takes a millisecond.
        let mut observer = self.wait.then(|| Contact::start(self.arguments, &signals));
        if let Some(Ok(observer)) = &mut observer {
            observer.until_ready(READY_WITHIN);
        }
        let command = child::start(self.command, &signals)?;
        let mut observer = observer.unwrap_or_else(|| Contact::start(self.arguments, &signals));
        if let Ok(observer) = &mut observer {
            observer.tell(ToObserver::Started(command.id()));
        }
        let status = child::wait(&command, &signals).map_err(NotStarted::Signals)?;
        let mut outcome = Outcome { status, cause: String::new(), lie: false, recorded: false, not_recorded: None };
        if status.is_success() && !self.doubts_success {
            return Ok(outcome);
        }
        let answer = match observer {
            Ok(observer) => observer.ask(status),
            Err(error) => {
                Answer { cause: format!("no cause found: the tracer did not start: {error}"), ..Answer::default() }
            }
        };
        outcome.lie = answer.lie;
        if !status.is_success() || answer.lie {
            outcome.cause = answer.cause;
        }
        (outcome.recorded, outcome.not_recorded) = (answer.recorded, answer.not_recorded);
        Ok(outcome)
    }
}

/// The observer, as seen by the front. Closing its stdin ends it.
struct Contact {
    /// Reaped by init: the front exits first.
    _child: Child,
    stdin: ChildStdin,
    messages: Messages,
    ready: bool,
}

impl Contact {
    fn start(arguments: &[OsString], signals: &Signals) -> io::Result<Self> {
        let mut words = arguments.iter();
        let mut command = Command::new(THIS_PROGRAM);
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        signals.restore_in(&mut command);
        let mut child = command
            .args(words)
            .env(OBSERVER, "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C and Ctrl-Z reach the command and the front alone.
            .process_group(0)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let messages = Messages { stdout, read: Vec::new() };
        Ok(Self { _child: child, stdin, messages, ready: false })
    }

    /// Sends a message. An observer that has ended answers nothing, which [`Contact::ask`] reports.
    fn tell(&mut self, message: ToObserver) {
        drop(send(&mut self.stdin, &message));
    }

    fn until_ready(&mut self, within: Duration) {
        let end = Instant::now() + within;
        while !self.ready {
            match self.messages.next(end) {
                Some(ToFront::Ready) => self.ready = true,
                Some(ToFront::Answer(_)) => {}
                None => break,
            }
        }
    }

    /// Reports the end of the command, and waits for the cause.
    fn ask(mut self, status: Status) -> Answer {
        self.tell(ToObserver::Ended(status));
        let end = Instant::now() + ANSWER_WITHIN;
        loop {
            match self.messages.next(end) {
                Some(ToFront::Ready) => self.ready = true,
                Some(ToFront::Answer(answer)) => return answer,
                None => break,
            }
        }
        let why = if self.ready {
            "the tracer did not answer"
        } else {
            "the command ended before the tracer was ready; `--wait` starts it afterwards"
        };
        Answer { cause: format!("no cause found: {why}"), ..Answer::default() }
    }
}

/// Messages of the observer.
struct Messages {
    stdout: ChildStdout,
    read: Vec<u8>,
}

impl Messages {
    /// The next message; `None` at that time, or if the observer has ended.
    fn next(&mut self, end: Instant) -> Option<ToFront> {
        loop {
            if let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=at).collect();
                return serde_json::from_slice(&line).ok();
            }
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok()?;
            let mut wanted = [PollFd::new(&self.stdout, PollFlags::IN)];
            match poll(&mut wanted, Some(&left)) {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            let mut bytes = [0; 4096];
            let count = self.stdout.read(&mut bytes).ok().filter(|count| *count > 0)?;
            self.read.extend_from_slice(bytes.get(..count)?);
            if self.read.len() > MAX_MESSAGES {
                return None;
            }
        }
    }
}
