//! A real OTLP receiver: tonic's server with the services of opentelemetry-proto.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    logs::v1::LogRecord,
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, transport::Server};

/// Longest wait of a test for messages.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a receiver has got.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Resources of spans.
    pub resources: Vec<Resource>,
    /// Spans, in the order of their arrival, as logs and metrics.
    pub spans: Vec<Span>,
    /// See `spans`.
    pub logs: Vec<LogRecord>,
    /// See `spans`.
    pub metrics: Vec<Metric>,
    /// Calls that have begun, answered or not.
    pub calls: u64,
}

#[derive(Default)]
struct State {
    received: Mutex<Received>,
    changed: Condvar,
    /// Calls wait for ever.
    is_stuck: AtomicBool,
    /// Calls are refused for good.
    refuses: AtomicBool,
    /// One span of each call is refused.
    refuses_one: AtomicBool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().expect("no test thread panics with it")
    }

    async fn take(&self, add: impl FnOnce(&mut Received)) -> Result<(), Status> {
        self.lock().calls += 1;
        self.changed.notify_all();
        if self.is_stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Status::invalid_argument("for a test"));
        }
        add(&mut self.lock());
        self.changed.notify_all();
        Ok(())
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let all = request.into_inner().resource_spans;
        self.0
            .take(|received| {
                for of in all {
                    received.resources.extend(of.resource);
                    received.spans.extend(of.scope_spans.into_iter().flat_map(|of| of.spans));
                }
            })
            .await?;
        let refused = i64::from(self.0.refuses_one.load(Ordering::Relaxed));
        let partial = ExportTracePartialSuccess { rejected_spans: refused, error_message: String::new() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: (refused > 0).then_some(partial) }))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let all = request.into_inner().resource_logs;
        let logs = all.into_iter().flat_map(|of| of.scope_logs).flat_map(|of| of.log_records);
        self.0.take(|received| received.logs.extend(logs)).await?;
        Ok(Response::new(ExportLogsServiceResponse { partial_success: None }))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let all = request.into_inner().resource_metrics;
        let metrics = all.into_iter().flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics);
        self.0.take(|received| received.metrics.extend(metrics)).await?;
        Ok(Response::new(ExportMetricsServiceResponse { partial_success: None }))
    }
}

/// A running receiver; its connections end with it.
pub struct Receiver {
    state: Arc<State>,
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Receiver {
    /// Starts at a free port of loopback.
    pub fn start() -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"))
    }

    /// Starts at the address of an earlier receiver.
    pub fn at(address: SocketAddr) -> Self {
        let state = Arc::<State>::default();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let service = Service(Arc::clone(&state));
        let thread = thread::spawn(move || {
            let server = Server::builder()
                .add_service(TraceServiceServer::new(service.clone()))
                .add_service(LogsServiceServer::new(service.clone()))
                .add_service(MetricsServiceServer::new(service));
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            runtime.block_on(async {
                tokio::select! {
                    outcome = server.serve_with_incoming(incoming) => outcome.expect("a server"),
                    // Without waiting for calls, as a receiver that is killed.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(PATIENCE);
        });
        Self { state, address, stop: Some(stop), thread: Some(thread) }
    }

    /// Has calls wait for ever from now on.
    pub fn stick(&self) {
        self.state.is_stuck.store(true, Ordering::Relaxed);
    }

    /// Refuses calls for good from now on.
    pub fn refuse(&self) {
        self.state.refuses.store(true, Ordering::Relaxed);
    }

    /// Refuses one span of each call from now on.
    pub fn refuse_one(&self) {
        self.state.refuses_one.store(true, Ordering::Relaxed);
    }

    /// What has arrived.
    pub fn received(&self) -> Received {
        self.state.lock().clone()
    }

    /// Waits until this holds.
    pub fn wait(&self, what: &str, holds: impl Fn(&Received) -> bool) -> Received {
        let end = Instant::now() + PATIENCE;
        let mut received = self.state.lock();
        while !holds(&received) {
            let left = end.saturating_duration_since(Instant::now());
            let got = (received.spans.len(), received.logs.len(), received.calls);
            assert!(!left.is_zero(), "{what}: spans, logs, calls: {got:?}");
            received = self.state.changed.wait_timeout(received, left).expect("no test thread panics with it").0;
        }
        received.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
