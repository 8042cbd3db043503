//! Permitted names per module, as data.

/// A module of the tracer.
pub(super) struct Module {
    /// Path from the root, such as `source::ebpf`. The innermost module with a rule decides.
    pub(super) name: &'static str,
    /// Modules that this module may name besides itself.
    pub(super) may_name: &'static [&'static str],
    /// True for the pure ring: no file, socket, clock, thread or async; ordered maps only.
    pub(super) pure: bool,
}

const fn pure(name: &'static str, may_name: &'static [&'static str]) -> Module {
    Module { name, may_name, pure: true }
}

const fn edge(name: &'static str, may_name: &'static [&'static str]) -> Module {
    Module { name, may_name, pure: false }
}

/// Only `main` names `cli`; no sink names the correlator; no source names a sink.
pub(super) const MODULES: &[Module] = &[
    // The vocabulary: every module names it, and it names none.
    pure("model", &[]),
    pure("decode", &["model"]),
    // Untrusted text is escaped in one place.
    pure("escape", &["model"]),
    // Replay needs no decoder, no sources and no sinks.
    pure("correlate", &["model"]),
    // A diagnosis follows from a report, live and in replay.
    pure("diagnose", &["model"]),
    // A path in words. Foreign names in it are already escaped.
    pure("explain", &["escape", "model"]),
    pure("plan", &["model"]),
    // Gives up rights of the process; knows nothing of its work.
    edge("confine", &[]),
    edge("source", &["clock", "confine", "host_paths", "model", "record", "decode", "plan"]),
    edge("record", &["model"]),
    edge("redact", &["model"]),
    // Merges facts of several hosts into one recording; the correlator draws the conclusions.
    edge("merge", &["model", "record"]),
    pure("merge::clocks", &["model"]),
    pure("merge::survey", &["merge::clocks", "model"]),
    // A sink shows a report; it cannot ask for more.
    edge("sink", &["escape", "explain", "model"]),
    // Metrics follow from findings and reports; their labels are tokens of the vocabulary.
    pure("metrics", &["diagnose", "model", "sink"]),
    // Messages of OTLP.
    pure("otlp", &["metrics", "model", "sink"]),
    // Serves metrics to the network, and sends messages.
    edge("export", &["clock", "confine", "metrics", "model", "otlp", "sink"]),
    // Recordings in a message stream.
    edge("stream", &["clock", "confine", "model", "record"]),
    // Recordings of a stream, merged while they go on.
    edge("follow", &["engine", "merge", "model", "record", "redact", "sink", "stream"]),
    pure("follow::pace", &["model"]),
    // The screen follows from reports and keys alone.
    pure("tui", &["escape", "explain", "model", "sink"]),
    // Pictures are made from the reports that a replay gives to a sink.
    edge("render", &["escape", "explain", "model", "sink"]),
    edge("probe_host", &["host_paths", "model", "plan", "source::ebpf"]),
    edge("doctor", &["model", "plan", "probe_host"]),
    // Describes the JSON output.
    edge("schema", &["doctor", "sink"]),
    edge("engine", &["correlate", "diagnose", "model", "record", "redact", "sink"]),
    edge("clock", &["model"]),
    edge("netns", &["host_paths"]),
    // Places of the host's files; a container has them elsewhere.
    edge("host_paths", &[]),
    edge(
        "live",
        &[
            "clock",
            "confine",
            "correlate",
            "decode",
            "engine",
            "host_paths",
            "model",
            "netns",
            "plan",
            "probe_host",
            "record",
            "sink",
            "source",
        ],
    ),
    edge(
        "inspect",
        &["clock", "correlate", "engine", "live", "model", "netns", "probe_host", "redact", "sink", "source"],
    ),
    // One session of a recording; each attempt is replayed and compared.
    edge("cut", &["engine", "model", "record", "redact"]),
    pure("cut::selection", &["model"]),
    edge("watch", &["engine", "follow", "live", "model", "record", "redact", "sink", "stream", "tui"]),
    edge(
        "demo",
        &["clock", "confine", "correlate", "engine", "escape", "live", "model", "netns", "plan", "probe_host", "sink"],
    ),
    // Signals and messages of a service.
    edge("agent", &["confine"]),
    edge("run", &["clock", "diagnose", "escape", "inspect", "live", "model", "record", "sink"]),
    pure("run::cause", &["escape", "model", "run", "sink"]),
    edge(
        "cli",
        &[
            "agent",
            "confine",
            "correlate",
            "cut",
            "demo",
            "diagnose",
            "doctor",
            "engine",
            "escape",
            "export",
            "follow",
            "host_paths",
            "inspect",
            "live",
            "merge",
            "model",
            "netns",
            "plan",
            "probe_host",
            "record",
            "redact",
            "render",
            "run",
            "schema",
            "sink",
            "source",
            "stream",
            "tui",
            "watch",
        ],
    ),
    edge("main", &["cli"]),
];

/// Paths that the pure ring must not name.
pub(super) const BANNED_IN_PURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "aya",
    "libc",
    "procfs",
    "rustix",
    "tokio",
];

/// Exceptions: these are plain data.
pub(super) const HARMLESS: &[&str] = &[
    "std::net::AddrParseError",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::SocketAddrV4",
    "std::net::SocketAddrV6",
    "std::sync::Arc",
];

/// Banned through any path: clocks, and maps of random order.
pub(super) const BANNED_WORDS_IN_PURE: &[&str] = &["HashMap", "HashSet", "Instant", "SystemTime"];
