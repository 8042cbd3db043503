//! The path in miniature: small processes play kubectl, API server, kubelet, runtime, shim and runc over real
//! connections. The path ends in a real process, and the real probes trace it. No cluster is needed.
//!
//! * [`run`] sets up the stage, traces, and cleans up;
//! * `stage` is the process that owns a network namespace, a folder and the actors. It cleans up when its stdin closes,
//!   so that the demo may end in any way;
//! * `actors` has one file per actor, `wire` their protocols, `place` the layout of the folder;
//! * `witness` is a sink that keeps the session; [`RECORDING`] is shown on hosts that do not permit tracing.

mod actors;
mod names;
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
    clock,
    correlate::Options,
    engine::Until,
    live::{self, Live, LiveError},
    model::BootTime,
    netns::NetNs,
    plan::plan,
    probe_host,
};

/// Time limit of the whole demo. The miniature itself takes a second, most of it the sleep of its command.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time that the client may take after the end of the session to report its output.
const GRACE: Duration = Duration::from_secs(1);

/// A recording of one `kubectl exec` on a real cluster, shown on hosts that do not permit tracing.
/// `tracer/demo/README.md` describes its origin.
pub const RECORDING: &[u8] = include_bytes!("../../demo/exec.jsonl.zst");
/// Value of [`place::VARIABLE`] that forces the recording, for tests.
const REPLAY: &str = "replay";

/// Default command in the container.
pub const COMMAND: [&str; 3] = ["sh", "-c", "echo hello from the container; sleep 1"];

/// End of a demo.
pub enum Outcome {
    /// The session was traced to its end, and its path is complete.
    Seen(Box<Seen>),
    /// Stopped by Ctrl-C.
    Interrupted,
    /// The kernel permits no new namespace. [`RECORDING`] can be shown instead, with these settings.
    NotAllowed(Box<Live>),
}

/// Failure of a demo.
#[derive(Debug)]
pub enum DemoError {
    /// The actors could not be started.
    Stage(String),
    /// The tracer failed.
    Live(LiveError),
    /// No session, or an incomplete one, was traced in time.
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

/// Plays an actor if this process is one. `name` is the process's argv[0].
#[must_use]
pub fn play(name: &str, arguments: &[String]) -> Option<ExitCode> {
    let folder = std::env::var_os(place::VARIABLE)?;
    (folder != REPLAY).then(|| actors::play(name, Path::new(&folder), arguments)).flatten()
}

/// True if probes may be attached. Otherwise, [`RECORDING`] can be shown.
#[must_use]
pub fn is_allowed() -> bool {
    let (_, missing) = plan(&probe_host::probe(None));
    let asked = std::env::var_os(place::VARIABLE).is_some_and(|asked| asked == REPLAY);
    !asked && !missing.iter().any(|degraded| degraded.code == "no-privilege")
}

/// Runs `command` at the end of the path, traced with the settings of `asked`.
///
/// # Errors
/// When the stage or the tracer fails, or the session was not traced completely within ten seconds.
pub fn run(asked: Live, command: &[String]) -> Result<Outcome, DemoError> {
    let begun = clock::now();
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
    Duration::from_millis(clock::now().since(begun).as_millis())
}
