//! The path in miniature: small processes play kubectl, API server, kubelet, runtime, shim and runc over real
//! connections. The path ends in a real process, and the real probes trace it. No cluster is needed.
//!
//! * [`run`] sets up the sandbox, traces, and cleans up;
//! * `sandbox` is the process that owns a network namespace, a folder and the actors. It cleans up when its stdin closes,
//!   so that the demo may end in any way;
//! * `actors` has one file per actor, `wire` their protocols, `dir` the layout of the folder;
//! * `capture_sink` is a sink that keeps the session; [`RECORDING`] is shown on hosts that do not permit tracing.

mod actors;
mod capture_sink;
mod dir;
mod names;
mod net;
mod sandbox;
mod wire;

use std::{fmt, path::Path, process::ExitCode, time::Duration};

pub use capture_sink::TracedSession;

use self::{
    capture_sink::CaptureSink,
    sandbox::{Sandbox, StartError},
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

/// Time that the client may take after the end of the session to report its output.
const GRACE: Duration = Duration::from_secs(1);

/// A recording of one `kubectl exec` on a real cluster, shown on hosts that do not permit tracing.
/// `tracer/demo/README.md` describes its origin.
pub const RECORDING: &[u8] = include_bytes!("../../demo/exec.jsonl.zst");
/// Value of [`dir::VARIABLE`] that forces the recording, for tests.
const REPLAY: &str = "replay";

/// Default command in the container.
pub const COMMAND: [&str; 3] = ["sh", "-c", "echo hello from the container; sleep 1"];

/// End of a demo.
pub enum Outcome {
    /// The session was traced to its end, and its path is complete.
    Completed(Box<TracedSession>),
    /// Stopped by Ctrl-C.
    Interrupted,
    /// The kernel permits no new namespace. [`RECORDING`] can be shown instead, with these settings.
    NotAllowed(Box<Live>),
}

/// Failure of a demo.
#[derive(Debug)]
pub enum DemoError {
    /// The actors could not be started.
    Setup(String),
    /// The tracer failed.
    Live(LiveError),
    /// No session, or an incomplete one, was traced in time.
    Incomplete(String),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(text) => write!(f, "the demo could not be set up: {text}"),
            Self::Live(_) => f.write_str("the demo could not be traced"),
            Self::Incomplete(text) => f.write_str(text),
        }
    }
}

/// Plays an actor if this process is one. `name` is the `argv[0]` of the process.
#[must_use]
pub fn play(name: &str, arguments: &[String]) -> Option<ExitCode> {
    let folder = std::env::var_os(dir::VARIABLE)?;
    (folder != REPLAY).then(|| actors::play(name, Path::new(&folder), arguments)).flatten()
}

/// True if probes may be attached. Otherwise, [`RECORDING`] can be shown.
#[must_use]
pub fn is_allowed() -> bool {
    let (_, missing) = plan(&probe_host::probe(None));
    let replay_only = std::env::var_os(dir::VARIABLE).is_some_and(|value| value == REPLAY);
    !replay_only && !missing.iter().any(|degraded| degraded.code == "no-privilege")
}

/// Runs `command` at the end of the path, traced with the given settings.
///
/// # Errors
/// When the sandbox or the tracer fails, or the session was not traced completely within `limit`.
pub fn run(settings: Live, command: &[String], limit: Duration) -> Result<Outcome, DemoError> {
    let begun = clock::now();
    let mut sandbox = match Sandbox::start(command, limit) {
        Ok(sandbox) => sandbox,
        Err(StartError::NotAllowed) => return Ok(Outcome::NotAllowed(Box::new(settings))),
        Err(StartError::Failed(text)) => return Err(DemoError::Setup(text)),
    };
    let capture = CaptureSink::default();
    let captured = capture.captured();
    let mut settings = settings;
    settings.setup.until = Until::Closed;
    settings.setup.sinks.push(Box::new(capture));
    let dir = sandbox.dir();
    let live = Live {
        options: Options { runtime_socket: Some(dir.runtime_socket()), ..settings.options },
        netns: Some(NetNs::Pid(sandbox.pid())),
        duration: Some(limit.saturating_sub(elapsed(begun))),
        bundles: Some(dir.bundles()),
        ready: Some(sandbox.start_signal()),
        ..settings
    };
    live::live(live).map_err(DemoError::Live)?;
    let printed = sandbox.client_output(GRACE);
    sandbox.end();
    match captured.take() {
        Some(session) if session.is_closed() && session.is_complete() => {
            Ok(Outcome::Completed(Box::new(TracedSession { session, printed: printed.unwrap_or_default() })))
        }
        Some(session) if session.is_closed() => {
            Err(DemoError::Incomplete(format!("the session was traced, but is incomplete: {}", session.gaps())))
        }
        _ if elapsed(begun) < limit => Ok(Outcome::Interrupted),
        Some(_) => Err(DemoError::Incomplete(format!("the command had not ended after {limit:?}"))),
        None => Err(DemoError::Incomplete(match printed {
            Some(printed) => format!("no session was traced; the client printed: {printed}"),
            None => format!("no session was traced within {limit:?}"),
        })),
    }
}

fn elapsed(begun: BootTime) -> Duration {
    Duration::from_millis(clock::now().since(begun).as_millis())
}
