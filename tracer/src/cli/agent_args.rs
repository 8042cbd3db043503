//! Arguments of the agent, and of all commands that export.

use std::{net::SocketAddr, num::NonZero, path::PathBuf, time::Duration};

use clap::{Args, builder::ValueHint};

use super::{
    shared_args::{Audit, Kernel, Nats, Places, Privacy, Queue},
    values::{address, measure},
};
use crate::{model::Span, record::Rotate};

/// Interval of samples for exporters.
pub(super) const MEASURED: Duration = Duration::from_secs(5);

/// Programs that collect metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Export")]
pub(super) struct Export {
    /// Serve metrics for Prometheus at this address, without authentication: `127.0.0.1:9464`, or `:9464` for every address
    /// of this host. They count all sessions, whatever the filters; see docs/metrics.md.
    #[arg(long, value_name = "[IP]:PORT", value_parser = address)]
    pub(super) metrics: Option<SocketAddr>,
    /// Send traces, logs and metrics to this OTLP receiver by gRPC, without TLS: `127.0.0.1:4317`. A receiver that is
    /// down or slow never holds up the trace; see docs/otlp.md.
    #[arg(long, value_name = "[http://]HOST[:PORT]")]
    pub(super) otlp: Option<String>,
}

/// Sizes and number of the files that the agent records, unless told otherwise.
pub(super) const ROTATE: Rotate =
    Rotate { bytes: Some(100_000_000), age: Some(Span::from_secs(86_400)), keep: NonZero::new(7) };

#[derive(Debug, Args)]
pub(super) struct Agent {
    /// Configuration in TOML. Its keys are the names of these options, without the dashes; options on the command line go
    /// before the file's.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long)]
    pub(super) check: bool,
    /// Record observations to files of this name, with a number before the extension; a name ending in `.zst` compresses.
    /// `nats://HOST[:PORT]/CLUSTER` publishes to a message stream instead.
    #[arg(long, value_name = "FILE|nats://…", value_hint = ValueHint::FilePath)]
    pub(super) record: Option<PathBuf>,
    /// Start a new recording file at this size or age, and keep this many. Default: `100MB,24h,keep=7`. Not for a stream,
    /// whose server limits it.
    #[arg(long, value_name = "WHEN")]
    pub(super) rotate: Option<Rotate>,
    /// Sample open sessions at this interval (2s–30s).
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = measure)]
    pub(super) measure: Duration,
    #[command(flatten)]
    pub(super) nats: Nats,
    #[command(flatten)]
    pub(super) queue: Queue,
    #[command(flatten)]
    pub(super) export: Export,
    #[command(flatten)]
    pub(super) privacy: Privacy,
    #[command(flatten)]
    pub(super) places: Places,
    #[command(flatten)]
    pub(super) audit: Audit,
    #[command(flatten)]
    pub(super) kernel: Kernel,
    /// Number of `--verbose`.
    #[arg(skip)]
    pub(super) verbosity: u8,
}
