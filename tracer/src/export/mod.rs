//! Metrics and traces of sessions, for the programs that collect them: an endpoint that Prometheus scrapes, and messages to an OTLP
//! receiver. A thread of its own serves the network. The thread of the trace only counts and queues, under locks that are never held during
//! input or output.

mod exporter;
mod http;
mod outbox;
mod own;
mod registry;
mod sender;
mod shared;
mod sink;

pub use self::{
    exporter::{ExportError, Exporter, Options},
    sink::ExportSink,
};
