//! Log records: one for each closed session, attempt and verdict.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
};

use super::{
    attributes as name,
    attributes::Attributes,
    ids::{Of, TraceIds},
    spans::of_session,
};
use crate::{
    model::{BootTime, Session, SessionId, Severity, Verdict},
    sink::Header,
};

/// Record of a session that has ended, or of an attempt that failed before it became a session.
#[must_use]
pub fn closed(session: &Session, header: &Header, now: BootTime) -> LogRecord {
    let (event, text, severity) = if session.is_attempt_only() {
        ("execpath.attempt.failed", "attempt failed", SeverityNumber::Warn)
    } else {
        ("execpath.session.closed", "session closed", SeverityNumber::Info)
    };
    let at = session.closed_at.unwrap_or(now);
    let attributes = of_session(session);
    // An attempt that became no session has no trace.
    let trace = Some(&session.id).filter(|_| !session.is_attempt_only());
    record(header, at, now, event, text, severity, attributes, trace)
}

/// Record of a verdict that began.
#[must_use]
pub fn verdict(verdict: &Verdict, header: &Header, now: BootTime) -> LogRecord {
    let severity = match verdict.severity {
        Severity::Fault => SeverityNumber::Warn,
        Severity::Info => SeverityNumber::Info,
    };
    let attributes = Attributes::default()
        .text(name::CODE, Some(verdict.code))
        .text(name::NAME, Some(verdict.name))
        .text(name::SEVERITY, Some(verdict.severity.token()))
        .text(name::SESSION, verdict.session.as_ref().map(|id| &*id.0))
        .number(name::HOP, verdict.hop)
        .number(name::PID, verdict.about.pid);
    let at = verdict.since.unwrap_or(now);
    record(header, at, now, "execpath.verdict", verdict.means, severity, attributes, verdict.session.as_ref())
}

#[expect(clippy::too_many_arguments, reason = "the fields of a record")]
fn record(
    header: &Header,
    at: BootTime,
    now: BootTime,
    event: &str,
    text: &str,
    severity: SeverityNumber,
    attributes: Attributes,
    session: Option<&SessionId>,
) -> LogRecord {
    let ids = session.map(|id| TraceIds::of_session(&header.host.boot_id, id));
    LogRecord {
        time_unix_nano: header.anchor.utc_ns(at),
        observed_time_unix_nano: header.anchor.utc_ns(now),
        severity_number: severity.into(),
        severity_text: if severity == SeverityNumber::Warn { "WARN" } else { "INFO" }.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
        attributes: attributes.done(),
        trace_id: ids.as_ref().map(TraceIds::trace).unwrap_or_default(),
        span_id: ids.as_ref().map(|ids| ids.span(Of::Session)).unwrap_or_default(),
        event_name: event.to_owned(),
        ..LogRecord::default()
    }
}
