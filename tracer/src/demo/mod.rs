//! The path in miniature: small processes of our own play kubectl, API server, kubelet, runtime, shim and runc over real
//! connections, end in a real process, and are traced by the real probes. No cluster is needed.
//!
//! * [`run`] puts the stage up, traces, and takes it down;
//! * `stage` is the process that holds everything: a network namespace, a folder, the actors. It cleans up when the pipe
//!   from us ends, whatever ended us;
//! * `actors` has one file per actor, `wire` what they say to each other, `place` where things are;
//! * `witness` is a sink that remembers what was seen; [`RECORDING`] is for where tracing is not allowed.

mod actors;
mod net;
mod place;
mod stage;
mod wire;
mod witness;

use std::{fmt, path::Path, process::ExitCode, time::Duration};

pub use witness::Seen;

use self::{
    stage::{Refused, Stage},
    witness::Witness,
};
use crate::{
    correlate::Options,
    engine::Until,
    live::{self, Live, LiveError, NetNs},
    model::BootTime,
    plan::plan,
    probe_host,
};

/// All of it, from the first process to the last. The miniature itself takes a second, most of which its command sleeps.
const DEADLINE: Duration = Duration::from_secs(10);
/// After the session closed, how long the client may take to say what it printed.
const GRACE: Duration = Duration::from_secs(1);

/// A recording of one `kubectl exec` on a real cluster, to be shown where tracing is not allowed; `tracer/demo/README.md`
/// says how it was made.
pub const RECORDING: &[u8] = include_bytes!("../../demo/exec.jsonl.zst");
/// Set to this, the variable that actors get their folder by asks for the recording: for tests.
const REPLAY: &str = "replay";

/// What the command in the container is, where the user gives none.
pub const COMMAND: [&str; 3] = ["sh", "-c", "echo hello from the container; sleep 1"];

/// How it went.
pub enum Outcome {
    /// The session was seen to its end, whole.
    Seen(Box<Seen>),
    /// Stopped by Ctrl-C.
    Interrupted,
    /// The kernel lets this process make no namespace: [`RECORDING`] can be shown instead, as was asked.
    NotAllowed(Box<Live>),
}

/// Why the demo did not come about.
#[derive(Debug)]
pub enum DemoError {
    /// The actors could not be started.
    Stage(String),
    /// The tracer could not.
    Live(LiveError),
    /// No session, or not all of it, was seen in time.
    Incomplete(String),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(text) => write!(f, "the demo could not be set up: {text}"),
            Self::Live(_) => f.write_str("the demo could not be traced"),
            Self::Incomplete(text) => f.write_str(text),
        }
    }
}

/// If this process is an actor of a demo, plays it; `name` is what it was called by.
#[must_use]
pub fn play(name: &str, arguments: &[String]) -> Option<ExitCode> {
    let folder = std::env::var_os(place::VARIABLE)?;
    (folder != REPLAY).then(|| actors::play(name, Path::new(&folder), arguments)).flatten()
}

/// Whether probes may be attached; where not, [`RECORDING`] is what can be shown.
#[must_use]
pub fn is_allowed() -> bool {
    let (_, missing) = plan(&probe_host::probe(None));
    let asked = std::env::var_os(place::VARIABLE).is_some_and(|asked| asked == REPLAY);
    !asked && !missing.iter().any(|degraded| degraded.code == "no-privilege")
}

/// Runs `command` at the end of the path, traced and shown as `asked`.
///
/// # Errors
/// When it cannot be set up or traced, or its session was not seen whole within ten seconds.
pub fn run(asked: Live, command: &[String]) -> Result<Outcome, DemoError> {
    let begun = live::now();
    let mut stage = match Stage::start(command, DEADLINE) {
        Ok(stage) => stage,
        Err(Refused::NotAllowed) => return Ok(Outcome::NotAllowed(Box::new(asked))),
        Err(Refused::Failed(text)) => return Err(DemoError::Stage(text)),
    };
    let witness = Witness::default();
    let seen = witness.seen();
    let mut asked = asked;
    asked.setup.until = Until::Closed;
    asked.setup.sinks.push(Box::new(witness));
    let place = stage.place();
    let live = Live {
        options: Options { runtime_socket: Some(place.runtime_socket()), ..asked.options },
        netns: Some(NetNs::Pid(stage.pid())),
        duration: Some(DEADLINE.saturating_sub(since(begun))),
        bundles: Some(place.bundles()),
        ready: Some(stage.go()),
        ..asked
    };
    live::live(live).map_err(DemoError::Live)?;
    let told = stage.told(GRACE);
    stage.end();
    match seen.take() {
        Some(session) if session.is_closed() && session.is_complete() => {
            Ok(Outcome::Seen(Box::new(Seen { session, printed: told.unwrap_or_default() })))
        }
        Some(session) if session.is_closed() => {
            Err(DemoError::Incomplete(format!("the session was seen, but not all of it: {}", session.missing())))
        }
        _ if since(begun) < DEADLINE => Ok(Outcome::Interrupted),
        Some(_) => Err(DemoError::Incomplete(format!("the command had not ended after {DEADLINE:?}"))),
        None => Err(DemoError::Incomplete(match told {
            Some(printed) => format!("no session was seen; the client said: {printed}"),
            None => format!("no session was seen within {DEADLINE:?}"),
        })),
    }
}

fn since(begun: BootTime) -> Duration {
    Duration::from_millis(live::now().since(begun).as_millis())
}
