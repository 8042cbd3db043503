//! The vocabulary: observations, and the results that follow from them. Names nothing else of this crate.
//!
//! * An [`Observation`] is one [`Fact`] with its time and source: a record of the kernel or a line of a snapshot.
//! * A [`Finding`] is a change of the result; a [`Report`] is the whole result.
//! * A [`Session`] is one `kubectl exec` with its [`Hop`]s (acts of processes) and [`Link`]s; each link has its
//!   [`Evidence`], each hole is a [`Gap`].
//! * A [`Want`] is a question of the correlator to its environment. Answers come back as observations.

mod ancestry;
mod attempt;
mod audit;
mod container;
mod endpoints;
mod evidence;
mod fact;
mod file;
mod finding;
mod host;
mod idle;
mod ids;
mod kubectl;
mod loss;
mod measure;
mod measures;
mod moved;
mod net;
mod runtime;
mod scope;
mod session;
mod task;
mod tcp;
mod text;
mod time;
mod verdict;
mod waterfall;

pub use ancestry::{Ancestor, Ancestry};
pub use attempt::{Attempt, CERTIFICATE, ForwardFailed, Rung, RungSeen, RungState, errno_name, handshake_given_up};
pub use audit::{AuditEvent, AuditRequest, AuditUser, KubeUser, Subresource};
pub use container::{ContainerInfo, ContainerRef, is_id, names_container, parse_cgroup};
pub use endpoints::{DaemonCandidate, DaemonKind, Endpoints, parse_abstract};
pub use evidence::{Confidence, Evidence, Gap, GapCode, Proofs};
pub use fact::{Actor, DialError, Fact, Listener, Observation, Source};
pub use file::{Access, Descriptor, FileId, FileKind};
pub use finding::{Change, Daemon, DaemonConnection, Finding, Report, Totals, UnattributedEnd, Want};
pub use host::{Ability, Degraded, HostFacts, HostNo, Reach};
pub use idle::Activity;
pub use ids::IdVisitor;
pub use kubectl::{KubectlCall, parse_kubectl};
pub use loss::{BEHIND, LATE_START, MapFill, UNANSWERED, Unit, unit_of_loss};
pub use measure::{Call, CgroupMeasure, FileMeasure, ProcessMeasure, TcpMeasure, ThreadMeasure, UnixMeasure};
pub use measures::{Measures, SeenSpan, Series, Unlisted};
pub use moved::Move;
pub use net::{Family, Isn, Pairing, SocketId, SocketInfo, SocketRole, Tuple, parse_endpoint};
pub use runtime::{
    ExecFifo, Layout, Monitor, Names, RuncCreate, RuncExec, Runtime, is_kubelet_fifo, is_runtime_comm, is_shim_socket,
    is_starter_comm, parse_fifo_path, parse_monitor, parse_pid_file, parse_runc_create, parse_runc_exec,
    parse_runc_kill, runtimes,
};
pub use scope::{Depth, Scope};
pub use session::{
    Client, ExitReason, Hop, Killed, Kind, Link, LinkKind, Role, Session, SessionExit, SessionId, State, Target,
    TcpEnds, matching,
};
pub use task::{ExitStatus, INITIAL_USERNS, ProcessInfo, Program, SentBy, Signal, TaskKey, WatchAs};
pub use tcp::{TcpInfo, TcpState, Timer, TimerKind};
pub use text::RawText;
pub use time::{BootTime, ClockAnchor, Span};
pub use verdict::{About, Diagnosis, Health, Reading, Severity, ToldApart, Value, Verdict};
pub use waterfall::{Part, Waterfall};
