//! State that the trace and the thread of the network share.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use opentelemetry_proto::tonic::{metrics::v1::Metric, resource::v1::Resource};

use super::{
    outbox::{Outbox, Signal},
    own,
    registry::{Format, Metrics},
};
use crate::{
    clock,
    metrics::{
        Fold, Series,
        table::{BUILD, CPU, DROPPED, QUEUED, RESIDENT, SENT},
    },
    model::{BootTime, Degraded},
    otlp,
    sink::Header,
};

/// Version of execpath, for readers.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The host of the present trace, and the time at which the first one began.
type Origin = Option<(Arc<Header>, BootTime)>;

/// State that the trace and the thread of the network share.
pub(super) struct Shared {
    fold: Mutex<Fold>,
    pub(super) metrics: Metrics,
    pub(super) outbox: Outbox,
    origin: Mutex<Origin>,
    /// Messages are sent.
    pub(super) has_receiver: bool,
    /// Set once sessions are traced, or known not to be traceable.
    ready: OnceLock<()>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of the other thread leaves numbers that may be one off.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn real(number: u64) -> f64 {
    number as f64
}

impl Shared {
    /// Series of zero.
    pub(super) fn new(has_receiver: bool) -> Self {
        Self {
            fold: Mutex::default(),
            metrics: Metrics::new(),
            outbox: Outbox::default(),
            origin: Mutex::default(),
            has_receiver,
            ready: OnceLock::new(),
        }
    }

    /// True once sessions are traced, or known not to be traceable.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.get().is_some()
    }

    /// Notes that this host cannot be traced.
    pub(super) fn refuse(&self, degraded: &Degraded) {
        self.fold().refuse(degraded);
        let _before = self.ready.set(());
    }

    /// The text of a scrape.
    pub(super) fn scrape(&self, format: Format) -> Result<String, fmt::Error> {
        self.metrics.text(self.series(), format)
    }

    /// The source of all messages; `None` before the first trace.
    pub(super) fn resource(&self) -> Option<Resource> {
        lock(&self.origin).as_ref().map(|(header, _)| otlp::resource(header, VERSION))
    }

    pub(super) fn fold(&self) -> MutexGuard<'_, Fold> {
        lock(&self.fold)
    }

    /// Notes the start of a trace.
    pub(super) fn begin(&self, header: &Header) {
        self.fold().begin(header);
        let mut origin = lock(&self.origin);
        let began = origin.as_ref().map_or_else(clock::now, |(_, began)| *began);
        *origin = Some((Arc::new(header.clone()), began));
        drop(origin);
        let _before = self.ready.set(());
    }

    /// All series, with the numbers that are counted outside of the fold. The lock is held for a copy only.
    fn series(&self) -> Series {
        let mut fold = self.fold();
        let series = fold.series_mut();
        series.set(&BUILD, &[VERSION.into()], 1.0);
        series.set(&CPU, &[], own::cpu().as_secs_f64());
        if let Some(bytes) = own::resident() {
            series.set(&RESIDENT, &[], real(bytes));
        }
        if self.has_receiver {
            for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
                let (tally, label) = (self.outbox.tally(signal), [signal.token().into()]);
                series.set(&SENT, &label, real(tally.sent));
                series.set(&DROPPED, &label, real(tally.dropped));
            }
            let (spans, logs) = self.outbox.waiting();
            series.set(&QUEUED, &[Signal::Traces.token().into()], real(spans as u64));
            series.set(&QUEUED, &[Signal::Logs.token().into()], real(logs as u64));
        }
        series.clone()
    }

    /// All series as data points of OTLP; none before the first trace.
    pub(super) fn points(&self) -> Vec<Metric> {
        let origin = lock(&self.origin).clone();
        let Some((header, began)) = origin else { return Vec::new() };
        let (from, at) = (header.anchor.utc_ns(began), header.anchor.utc_ns(clock::now()));
        otlp::points(&self.series(), from, at)
    }
}
