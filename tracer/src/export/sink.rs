//! The sink that feeds the exporter.

use std::{io, sync::Arc};

use super::{exporter::Exporter, shared::Shared};
use crate::{
    metrics::Fold,
    model::{Change, Finding, MapFill, Report, Verdict},
    otlp,
    sink::{Header, Sink},
};

/// Feeds findings and reports to an [`Exporter`]. Never waits for a reader.
pub struct ExportSink {
    exporter: Exporter,
    drains: bool,
    header: Arc<Header>,
}

impl ExportSink {
    /// Feeds this exporter, and drains it at the end of the trace.
    #[must_use]
    pub fn of(exporter: &Exporter) -> Self {
        Self { exporter: exporter.clone(), drains: true, header: Arc::default() }
    }

    /// As [`ExportSink::of`], for one of several traces: the caller drains the exporter.
    #[must_use]
    pub fn of_many(exporter: &Exporter) -> Self {
        Self { drains: false, ..Self::of(exporter) }
    }

    /// Applies a step to the metrics. Returns the verdicts that began.
    fn fold(&self, step: impl FnOnce(&mut Fold)) -> Vec<Verdict> {
        let shared: &Shared = &self.exporter.shared;
        let mut fold = shared.fold();
        step(&mut fold);
        let (observed, begun) = (fold.observed(), fold.begun());
        drop(fold);
        shared.metrics.observe(&observed);
        begun
    }
}

impl Sink for ExportSink {
    fn needs_sessions(&self) -> bool {
        false
    }

    /// Starts the exporter's thread: the probes are attached by now, and the process has given up its rights.
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.header = Arc::new(header.clone());
        self.exporter.shared.begin(header);
        self.exporter.start()
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        self.fold(|fold| fold.change(finding));
        let shared = &self.exporter.shared;
        if let (true, Change::Closed(session)) = (shared.has_receiver, &finding.change) {
            if !session.is_attempt_only() {
                shared.outbox.push_spans(otlp::spans(session, &self.header, finding.at));
            }
            shared.outbox.push_log(otlp::closed(session, &self.header, finding.at));
        }
        Ok(())
    }

    fn evaluated(&mut self, report: &Report) -> io::Result<()> {
        let begun = self.fold(|fold| fold.evaluate(report));
        let shared = &self.exporter.shared;
        for verdict in begun.iter().filter(|_| shared.has_receiver) {
            shared.outbox.push_log(otlp::verdict(verdict, &self.header, report.now()));
        }
        Ok(())
    }

    fn filled(&mut self, maps: &[MapFill]) {
        self.exporter.shared.fold().fill(maps);
    }

    fn unrecorded(&mut self, what: &str, observations: u64) {
        self.exporter.shared.fold().lost(what, observations);
    }

    fn finish(&mut self, _report: &Report) -> io::Result<()> {
        if self.drains {
            self.exporter.drain();
        }
        Ok(())
    }
}
