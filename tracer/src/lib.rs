//! execpath shows the path of `kubectl exec`.
//!
//! The pure ring (`model`, `decode`, `correlate`, `diagnose`, `explain`, `plan`) knows no file, socket, clock, thread
//! or async: facts in, findings out, the same live and in replay. ARCHITECTURE.md has the map.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod confine;
pub mod correlate;
pub mod cut;
pub mod decode;
pub mod demo;
pub mod diagnose;
pub mod doctor;
pub mod engine;
pub mod escape;
pub mod explain;
pub mod export;
pub mod follow;
pub mod host_paths;
pub mod inspect;
pub mod live;
pub mod merge;
pub mod metrics;
pub mod model;
pub mod netns;
pub mod otlp;
pub mod plan;
pub mod probe_host;
pub mod record;
pub mod redact;
pub mod render;
pub mod run;
pub mod schema;
pub mod sink;
pub mod source;
pub mod stream;
pub mod tui;
pub mod watch;
