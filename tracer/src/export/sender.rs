//! Sends messages to an OTLP receiver by gRPC, on the thread of the network. A failure that may pass is tried again until the process
//! ends; meanwhile the queue fills, and what it refuses is counted.

use std::{io, net::ToSocketAddrs, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
        metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    logs::v1::{ResourceLogs, ScopeLogs},
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    trace::v1::{ResourceSpans, ScopeSpans},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};

use super::{
    outbox::Signal,
    shared::{Shared, VERSION},
};
use crate::otlp;

/// Most spans or log records of one message: 512 (the SDK's default) of at most a few kilobytes stay below gRPC's 4 MiB.
const BATCH: usize = 512;
/// Longest time to connect, and for one call. The latter is the default of OTLP exporters.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// First and longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Interval of metrics: the default of OTLP exporters.
const METRICS_EVERY: Duration = Duration::from_secs(60);

/// Address of a receiver, looked up: a confined process resolves no names.
#[derive(Clone, Debug)]
pub(super) struct Receiver(Endpoint);

impl Receiver {
    /// Looks up `http://HOST:PORT` or `HOST:PORT`.
    ///
    /// # Errors
    /// The text is no such address, or its host is unknown.
    pub(super) fn resolve(text: &str) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_error| invalid("this is no address: use HOST:PORT"))?;
        if uri.scheme_str() != Some("http") {
            return Err(invalid("only http:// is supported: TLS is left to a collector on this host"));
        }
        let host = uri.host().ok_or_else(|| invalid("the host is missing: use HOST:PORT"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
        let address = (host, port).to_socket_addrs()?.next().ok_or_else(|| invalid("the host has no address"))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(io::Error::other)?;
        // The name stays in the requests, for proxies that route by it.
        Ok(Self(endpoint.origin(uri).connect_timeout(CONNECT_WITHIN).timeout(CALL_WITHIN)))
    }
}

/// Port of OTLP by gRPC.
const DEFAULT_PORT: u16 = 4_317;

/// Outcome of a call.
enum Outcome {
    /// The receiver took the message, except for this many parts.
    Taken(u64),
    /// The call may succeed later.
    Later(Status),
    /// The call will never succeed.
    Refused(Status),
}

/// Sends until `stop` becomes true; then what waits, without a second attempt.
pub(super) async fn run(receiver: Receiver, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let channel = receiver.0.connect_lazy();
    let traces = send_traces(channel.clone(), Arc::clone(&shared), stop.clone());
    let logs = send_logs(channel.clone(), Arc::clone(&shared), stop.clone());
    let metrics = send_metrics(channel, Arc::clone(&shared), stop);
    tokio::join!(traces, logs, metrics);
    shared.outbox.abandon();
}

/// Waits for `ready`, or the stop. Returns true if it has been asked to stop.
async fn wait(stop: &mut watch::Receiver<bool>, ready: impl Future<Output = ()>) -> bool {
    tokio::select! {
        // An error means that the exporter is gone.
        _ = stop.wait_for(|is_stopping| *is_stopping) => true,
        () = ready => false,
    }
}

async fn send_traces(channel: Channel, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let client = TraceServiceClient::new(channel);
    let mut is_stopping = false;
    loop {
        let spans = shared.outbox.take_spans(BATCH);
        if spans.is_empty() {
            if is_stopping {
                return;
            }
            is_stopping = wait(&mut stop, shared.outbox.spans_wait.notified()).await;
            continue;
        }
        let count = spans.len() as u64;
        let scope = Some(otlp::scope(VERSION));
        let scope_spans = vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { resource: shared.resource(), scope_spans, ..ResourceSpans::default() }];
        let request = ExportTraceServiceRequest { resource_spans };
        let call = async || {
            let answer = client.clone().export(request.clone()).await?.into_inner();
            Ok(answer.partial_success.map_or(0, |partial| partial.rejected_spans))
        };
        is_stopping |= deliver(&shared, Signal::Traces, count, call, &mut stop).await;
    }
}

async fn send_logs(channel: Channel, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let client = LogsServiceClient::new(channel);
    let mut is_stopping = false;
    loop {
        let log_records = shared.outbox.take_logs(BATCH);
        if log_records.is_empty() {
            if is_stopping {
                return;
            }
            is_stopping = wait(&mut stop, shared.outbox.logs_wait.notified()).await;
            continue;
        }
        let count = log_records.len() as u64;
        let scope_logs = vec![ScopeLogs { scope: Some(otlp::scope(VERSION)), log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { resource: shared.resource(), scope_logs, ..ResourceLogs::default() }];
        let request = ExportLogsServiceRequest { resource_logs };
        let call = async || {
            let answer = client.clone().export(request.clone()).await?.into_inner();
            Ok(answer.partial_success.map_or(0, |partial| partial.rejected_log_records))
        };
        is_stopping |= deliver(&shared, Signal::Logs, count, call, &mut stop).await;
    }
}

/// Metrics do not wait: the next message has the same series, newer.
async fn send_metrics(channel: Channel, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut client = MetricsServiceClient::new(channel);
    loop {
        let is_stopping = wait(&mut stop, sleep(METRICS_EVERY)).await;
        let metrics = shared.points();
        let count = otlp::count(&metrics);
        let scope_metrics =
            vec![ScopeMetrics { scope: Some(otlp::scope(VERSION)), metrics, ..ScopeMetrics::default() }];
        let resource = shared.resource();
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        let answer = client.export(ExportMetricsServiceRequest { resource_metrics }).await;
        let dropped = match answer {
            Ok(answer) => {
                rejected(answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_data_points))
            }
            Err(status) => {
                tracing::debug!(%status, "the receiver takes no metrics");
                count
            }
        };
        shared.outbox.count(Signal::Metrics, count.saturating_sub(dropped), dropped.min(count));
        if is_stopping {
            return;
        }
    }
}

fn rejected(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Sends one message until the receiver has taken or refused it. Once the exporter stops, an attempt is the last. Returns true then.
async fn deliver(
    shared: &Shared,
    signal: Signal,
    count: u64,
    call: impl AsyncFn() -> Result<i64, Status>,
    stop: &mut watch::Receiver<bool>,
) -> bool {
    let mut pause = PAUSE;
    loop {
        let is_last = *stop.borrow();
        match attempt(&call).await {
            Outcome::Taken(refused) => {
                shared.outbox.count(signal, count.saturating_sub(refused), refused.min(count));
                return is_last;
            }
            Outcome::Refused(status) => {
                tracing::warn!(%status, signal = signal.token(), "the OTLP receiver refuses a message");
                shared.outbox.count(signal, 0, count);
                return is_last;
            }
            Outcome::Later(status) if is_last => {
                tracing::warn!(%status, signal = signal.token(), "the OTLP receiver is not reached at the end");
                shared.outbox.count(signal, 0, count);
                return true;
            }
            Outcome::Later(status) => {
                tracing::debug!(%status, signal = signal.token(), "the OTLP receiver takes no message now");
                let _stops = wait(stop, sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// One call. Codes that may pass are those of the specification (OTLP/gRPC Response).
async fn attempt(call: &impl AsyncFn() -> Result<i64, Status>) -> Outcome {
    let answer = timeout(CALL_WITHIN, call()).await;
    match answer {
        Ok(Ok(refused)) => Outcome::Taken(rejected(refused)),
        Err(_elapsed) => Outcome::Later(Status::deadline_exceeded("no answer")),
        Ok(Err(status)) => match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
            // A connection that broke during the call.
            | Code::Unknown => Outcome::Later(status),
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Internal
            | Code::Unauthenticated => Outcome::Refused(status),
        },
    }
}
