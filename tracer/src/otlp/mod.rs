//! Sessions, attempts, verdicts and series as messages of OTLP (opentelemetry.io/docs/specs/otlp). Knows no socket and no queue.
//!
//! The messages are those of the crate opentelemetry-proto, not spans of the SDK: the SDK makes ids, times and histograms of its own at
//! the time of a call, while these follow from findings.

mod attributes;
mod ids;
mod logs;
mod points;
mod spans;

use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};

use self::attributes::Attributes;
pub use self::{
    attributes::{ATTRIBUTES, Attribute},
    logs::{closed, verdict},
    points::{count, points},
    spans::spans,
};
use crate::sink::Header;

/// The source of all messages: execpath on this host.
#[must_use]
pub fn resource(header: &Header, version: &str) -> Resource {
    let host = &header.host;
    let attributes = Attributes::default()
        .text(attributes::SERVICE_NAME, Some("execpath"))
        .text(attributes::SERVICE_VERSION, Some(version))
        .text(attributes::HOST_NAME, Some(&host.hostname))
        .text(attributes::HOST_ID, Some(&host.boot_id))
        .text(attributes::HOST_ARCH, Some(&host.arch))
        .text(attributes::OS_VERSION, Some(&host.kernel));
    Resource { attributes: attributes.done(), ..Resource::default() }
}

/// The instrumentation scope of all messages.
#[must_use]
pub fn scope(version: &str) -> InstrumentationScope {
    InstrumentationScope { name: "execpath".to_owned(), version: version.to_owned(), ..InstrumentationScope::default() }
}
