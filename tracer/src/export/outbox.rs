//! Spans and log records that wait for the receiver: bounded, and never waited for. Beyond the bound the newest is dropped and counted.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use opentelemetry_proto::tonic::{logs::v1::LogRecord, trace::v1::Span};
use tokio::sync::Notify;

/// Most spans that wait. A session has about sixteen, of one to two kilobytes: a thousand sessions, in 30 MB at worst.
pub(super) const MAX_SPANS: usize = 16_384;
/// Most log records that wait.
pub(super) const MAX_LOGS: usize = 4_096;

/// Kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    /// Value of the label `signal`.
    pub(super) const fn token(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// Messages that were sent, and those that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) dropped: u64,
}

#[derive(Default)]
struct State {
    spans: VecDeque<Span>,
    logs: VecDeque<LogRecord>,
    tallies: [Tally; 3],
}

/// The queue between the trace and the thread of the network.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Wakes the sender of each signal.
    pub(super) spans_wait: Notify,
    pub(super) logs_wait: Notify,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the spans of a session: all, or none.
    pub(super) fn push_spans(&self, spans: Vec<Span>) {
        let mut state = self.state();
        if state.spans.len() + spans.len() > MAX_SPANS {
            state.tallies[Signal::Traces as usize].dropped += spans.len() as u64;
            return;
        }
        state.spans.extend(spans);
        drop(state);
        self.spans_wait.notify_one();
    }

    /// Adds a log record.
    pub(super) fn push_log(&self, log: LogRecord) {
        let mut state = self.state();
        if state.logs.len() >= MAX_LOGS {
            state.tallies[Signal::Logs as usize].dropped += 1;
            return;
        }
        state.logs.push_back(log);
        drop(state);
        self.logs_wait.notify_one();
    }

    /// Takes the oldest spans, at most this many.
    pub(super) fn take_spans(&self, most: usize) -> Vec<Span> {
        let mut state = self.state();
        let count = most.min(state.spans.len());
        state.spans.drain(..count).collect()
    }

    /// Takes the oldest log records, at most this many.
    pub(super) fn take_logs(&self, most: usize) -> Vec<LogRecord> {
        let mut state = self.state();
        let count = most.min(state.logs.len());
        state.logs.drain(..count).collect()
    }

    /// Counts messages that the receiver accepted, and those that it did not.
    pub(super) fn count(&self, signal: Signal, sent: u64, dropped: u64) {
        let tally = &mut self.state().tallies[signal as usize];
        tally.sent += sent;
        tally.dropped += dropped;
    }

    /// Counts of a signal.
    pub(super) fn tally(&self, signal: Signal) -> Tally {
        self.state().tallies[signal as usize]
    }

    /// Number of waiting spans and log records.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.spans.len(), state.logs.len())
    }

    /// Drops and counts everything that waits.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        let (spans, logs) = (state.spans.len() as u64, state.logs.len() as u64);
        state.spans.clear();
        state.logs.clear();
        state.tallies[Signal::Traces as usize].dropped += spans;
        state.tallies[Signal::Logs as usize].dropped += logs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_beyond_the_bound_are_dropped_and_counted() {
        let outbox = Outbox::default();
        for _ in 0..MAX_SPANS / 16 + 3 {
            outbox.push_spans(vec![Span::default(); 16]);
        }
        for _ in 0..MAX_LOGS + 5 {
            outbox.push_log(LogRecord::default());
        }
        assert_eq!(outbox.waiting(), (MAX_SPANS, MAX_LOGS));
        assert_eq!(outbox.tally(Signal::Traces).dropped, 48);
        assert_eq!(outbox.tally(Signal::Logs).dropped, 5);
        assert_eq!(outbox.take_spans(100).len(), 100);
        outbox.abandon();
        assert_eq!(outbox.waiting(), (0, 0));
        assert_eq!(outbox.tally(Signal::Traces).dropped, 48 + MAX_SPANS as u64 - 100);
    }
}
