//! Who may name whom, as data.

/// A module of the tracer.
pub(super) struct Module {
    /// From the root, as `source::ebpf`. The innermost module that has a rule decides.
    pub(super) name: &'static str,
    /// What it may name besides itself.
    pub(super) may_name: &'static [&'static str],
    /// Of the pure ring: no file, socket, clock, thread, async; ordered maps.
    pub(super) pure: bool,
}

const fn pure(name: &'static str, may_name: &'static [&'static str]) -> Module {
    Module { name, may_name, pure: true }
}

const fn edge(name: &'static str, may_name: &'static [&'static str]) -> Module {
    Module { name, may_name, pure: false }
}

/// Nothing names `cli` but `main`; no sink names the correlator; no source names a sink.
pub(super) const MODULES: &[Module] = &[
    // The vocabulary: everything names it, it names nothing.
    pure("model", &[]),
    pure("decode", &["model"]),
    // Untrusted text is escaped in one place.
    pure("escape", &["model"]),
    // Replay needs neither decoder nor sources nor sinks.
    pure("correlate", &["model"]),
    // What is wrong follows from a report, live and in replay.
    pure("diagnose", &["model"]),
    // What a path is, in words; names of strangers are escaped in them already.
    pure("explain", &["escape", "model"]),
    pure("plan", &["model"]),
    edge("source", &["clock", "model", "record", "decode", "plan"]),
    edge("record", &["model"]),
    edge("redact", &["model"]),
    // Facts of several hosts become one recording; what follows from them is the correlator's.
    edge("merge", &["model", "record"]),
    pure("merge::clocks", &["model"]),
    pure("merge::survey", &["merge::clocks", "model"]),
    // A sink shows a report; it cannot ask for more.
    edge("sink", &["escape", "explain", "model"]),
    // What is on the screen follows from what was told, and from keys.
    pure("tui", &["escape", "explain", "model", "sink"]),
    // Pictures are made of what a replay tells a sink.
    edge("render", &["escape", "explain", "model", "sink"]),
    edge("probe_host", &["model", "plan", "source::ebpf"]),
    edge("doctor", &["model", "plan", "probe_host"]),
    // What is printed as JSON, described.
    edge("schema", &["doctor", "sink"]),
    edge("engine", &["correlate", "diagnose", "model", "record", "redact", "sink"]),
    edge("clock", &["model"]),
    edge("netns", &[]),
    edge(
        "live",
        &["clock", "correlate", "decode", "engine", "model", "netns", "plan", "probe_host", "record", "sink", "source"],
    ),
    edge(
        "inspect",
        &["clock", "correlate", "engine", "live", "model", "netns", "probe_host", "redact", "sink", "source"],
    ),
    edge("watch", &["engine", "live", "model", "record", "redact", "sink", "tui"]),
    edge("demo", &["clock", "correlate", "engine", "escape", "live", "model", "netns", "plan", "probe_host", "sink"]),
    edge(
        "cli",
        &[
            "correlate",
            "demo",
            "diagnose",
            "doctor",
            "engine",
            "escape",
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
            "schema",
            "sink",
            "source",
            "tui",
            "watch",
        ],
    ),
    edge("main", &["cli"]),
];

/// What the pure ring may not name.
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

/// Exceptions: these are data.
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

/// Banned by whatever path: clocks, and maps whose order is random.
pub(super) const BANNED_WORDS_IN_PURE: &[&str] = &["HashMap", "HashSet", "Instant", "SystemTime"];
