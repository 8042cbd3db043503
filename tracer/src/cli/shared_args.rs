//! Arguments of several commands: what they read, and what they keep private.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, builder::ValueHint};
use regex::bytes::Regex;

use super::values::{duration, queue_bytes, regex};
use crate::{plan::Road, stream::Disk};

/// Arguments of `trace` and `watch` that concern this host only. They conflict with a stream.
pub(super) const OF_THIS_HOST: [&str; 11] = [
    "measure",
    "netns",
    "apiserver_port",
    "kubelet_port",
    "runtime_socket",
    "no_memory",
    "audit_log",
    "host_root",
    "proc",
    "sys",
    "btf",
];

/// The tracer's way into the kernel.
#[derive(Debug, Args)]
pub(super) struct Kernel {
    /// Take this road for sends and receives: `length`, `fexit` or `syscalls`. For tests.
    #[arg(long, value_name = "ROAD", value_parser = road, hide = true)]
    pub(super) road: Option<Road>,
}

/// Places of the host's files, for a container that has them elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "In a container")]
pub(super) struct HostFiles {
    /// Root directory of the host, such as `/host`; it also has the host's `proc` and `sys`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) host_root: Option<PathBuf>,
    /// The host's procfs. The container needs not share the host's pids.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) proc: Option<PathBuf>,
    /// The host's sysfs, with its tracefs.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) sys: Option<PathBuf>,
    /// The running kernel's types, if `/sys/kernel/btf/vmlinux` is out of reach.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) btf: Option<PathBuf>,
}

/// Location of the cluster's daemons.
#[derive(Clone, Debug, Args)]
pub(super) struct Places {
    /// Trace only this network namespace, if several hosts share a kernel: a name of `ip netns`, a path, or a pid.
    #[arg(long, value_name = "NAME|PATH|PID", help_heading = "Filters")]
    pub(super) netns: Option<OsString>,
    /// Port of the API server, in addition to 6443.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "The cluster")]
    pub(super) apiserver_port: Option<u16>,
    /// Port of the kubelet, in addition to 10250.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "The cluster")]
    pub(super) kubelet_port: Option<u16>,
    /// Socket of the container runtime, in addition to the well-known ones.
    #[arg(long, value_name = "PATH", help_heading = "The cluster")]
    pub(super) runtime_socket: Option<String>,
    /// Do not read the memory of API server, kubelet and runtime. Idle sessions older than the tracer then stay
    /// unlinked.
    #[arg(long, help_heading = "Privacy")]
    pub(super) no_memory: bool,
    #[command(flatten)]
    pub(super) files: HostFiles,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Privacy")]
pub(super) struct Privacy {
    /// Drop process arguments, which can contain secrets; the program's name stays.
    #[arg(long)]
    pub(super) no_args: bool,
    /// Replace matches in arguments by `***`, also in recordings; repeatable.
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    pub(super) redact: Vec<Regex>,
    /// Keep arguments that look like passwords, tokens or keys instead of replacing them by `***`.
    #[arg(long)]
    pub(super) no_redact_defaults: bool,
}

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// The API server's audit log on this host (`kube-apiserver --audit-log-path`), to show the user of each session.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "The cluster")]
    pub(super) audit_log: Option<PathBuf>,
}

/// Credentials for a message stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Message stream")]
pub(super) struct Nats {
    /// File with the credentials of a NATS user: JWT and NKey seed, as `nsc` writes it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["nats_nkey", "nats_token"])]
    pub(super) nats_creds: Option<PathBuf>,
    /// File with the NKey seed of a NATS user.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "nats_token")]
    pub(super) nats_nkey: Option<PathBuf>,
    /// File with a token. A token in the address (`nats://TOKEN@HOST/CLUSTER`) can be seen in the list of processes.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) nats_token: Option<PathBuf>,
    /// File with the certificates of authorities in PEM, for the server of `tls://…` (default: those of the system).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) nats_ca: Option<PathBuf>,
}

/// Where batches for a message stream wait.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Message stream")]
pub(super) struct Queue {
    /// Keep what the server of the stream does not take in this folder, which no other user may enter, and publish it later,
    /// also after a restart. Default: 16 MiB in memory.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) queue: Option<PathBuf>,
    /// Most bytes in the folder of `--queue`, 1MB or more. Observations without room are counted.
    #[arg(long, value_name = "SIZE", default_value = "64MB", value_parser = queue_bytes, requires = "queue")]
    pub(super) queue_bytes: u64,
}

/// The part of a message stream to read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Message stream")]
pub(super) struct Since {
    /// Read the stream from this long ago on (default: `10m`). Sessions that were open then are included, whatever
    /// their age.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) since: Option<Duration>,
    #[command(flatten)]
    pub(super) nats: Nats,
}

/// Time that is read of a stream by default.
const SINCE: Duration = Duration::from_secs(600);

impl Queue {
    /// The option, if it is given. It does nothing without a stream.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.queue.is_some().then_some("--queue")
    }

    /// The folder and its size, if one is given.
    pub(super) fn disk(&self) -> Option<Disk> {
        Some(Disk { folder: self.queue.clone()?, bytes: self.queue_bytes })
    }
}

impl Nats {
    /// The first option that is given. It does nothing without a stream.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.credentials().or_else(|| self.nats_ca.is_some().then_some("--nats-ca"))
    }

    /// The first option for credentials that is given.
    pub(super) fn credentials(&self) -> Option<&'static str> {
        let Self { nats_creds, nats_nkey, nats_token, nats_ca: _ } = self;
        let options = [("--nats-creds", nats_creds), ("--nats-nkey", nats_nkey), ("--nats-token", nats_token)];
        options.into_iter().find_map(|(name, file)| file.is_some().then_some(name))
    }
}

impl Since {
    /// Time to read, up to now.
    pub(super) fn since(&self) -> Duration {
        self.since.unwrap_or(SINCE)
    }

    /// The first option that is given. It does nothing without a stream.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.since.is_some().then_some("--since").or_else(|| self.nats.given())
    }
}

fn road(text: &str) -> Result<Road, String> {
    Road::from_token(text).ok_or_else(|| "must be length, fexit or syscalls".to_owned())
}
