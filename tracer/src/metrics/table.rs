//! Every family of metrics: name, help, labels with the bound of their values. Registration, the page docs/metrics.md and the test of the
//! bound read this table.

use crate::{
    diagnose,
    model::{GapCode, Kind, Rung, errno_name},
};

/// Start of every name of a family that belongs to execpath.
pub const PREFIX: &str = "execpath_";

/// Value of a label in place of a value beyond its bound.
pub const OTHER: &str = "other";
/// Value of a label for a stage or error that does not exist.
pub const NONE: &str = "none";
/// Value of the label `hop` for a whole start: from the first to the last stage of [`Rung`].
pub const TOTAL: &str = "total";

/// Shape of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A number that only grows. Its name ends in `_total`.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Observations, counted below each of these bounds.
    Histogram(&'static [f64]),
}

/// Values that a label can have.
#[derive(Clone, Copy)]
pub enum Values {
    /// These values, and no other.
    Fixed(fn() -> Vec<&'static str>),
    /// The first this many different values; later ones become [`OTHER`].
    First(usize),
}

impl Values {
    /// Largest number of values, including [`OTHER`].
    #[must_use]
    pub fn most(self) -> usize {
        match self {
            Self::Fixed(values) => values().len() + 1,
            Self::First(most) => most + 1,
        }
    }
}

/// A label of a family.
#[derive(Clone, Copy)]
pub struct Label {
    /// Name of the label.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// A family: all series of one name.
pub struct Family {
    /// Name, without `_total`.
    pub name: &'static str,
    /// Meaning, one sentence.
    pub help: &'static str,
    /// Shape.
    pub shape: Shape,
    /// Labels, in the order of their values in [`super::Series`].
    pub labels: &'static [Label],
}

impl Family {
    /// Name under which a scraper sees the family.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.shape {
            Shape::Counter => format!("{}_total", self.name),
            Shape::Gauge | Shape::Histogram(_) => self.name.to_owned(),
        }
    }

    /// Largest number of series that a scraper ever sees of this family.
    #[must_use]
    pub fn most(&self) -> usize {
        let each = match self.shape {
            Shape::Counter | Shape::Gauge => 1,
            // A bucket for each bound, one for the rest, the sum and the count.
            Shape::Histogram(bounds) => bounds.len() + 3,
        };
        self.labels.iter().map(|label| label.values.most()).product::<usize>() * each
    }
}

const fn fixed(name: &'static str, values: fn() -> Vec<&'static str>) -> Label {
    Label { name, values: Values::Fixed(values) }
}

const fn first(name: &'static str, most: usize) -> Label {
    Label { name, values: Values::First(most) }
}

const KIND: Label = fixed("kind", || Kind::ALL.map(Kind::token).into());
const CODE: Label = fixed("code", || diagnose::FAULTS.iter().map(|fault| fault.code).collect());
const GAP: Label = fixed("code", || GapCode::ALL.map(GapCode::token).into());
const OUTCOME: Label =
    fixed("outcome", || vec!["success", "failure", "signalled", "start-failed", "merged", "unknown"]);
const SIGNAL: Label = fixed("signal", || vec!["traces", "logs", "metrics"]);
const MAP: Label = first("map", 8);
/// Counters of the kernel's maps and of the tracer: some twenty.
const SOURCE: Label = first("source", 40);

fn rungs() -> Vec<&'static str> {
    Rung::ALL.map(Rung::token).into()
}

fn errors() -> Vec<&'static str> {
    let named = (0..200).filter_map(errno_name);
    named.chain([NONE, "unnamed"]).collect()
}

/// Seconds of a start: from a millisecond, the resolution of the probes' order, to a minute, the patience of a person.
const START: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Seconds of a session: from a command to a shell that stays open for days. 300 and 14,400 are usual idle limits of load balancers and
/// of the kubelet (`streamingConnectionIdleTimeout`).
const LIFE: &[f64] = &[1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $shape:expr, [$($label:expr),*], $help:literal;)*) => {
        $($(#[$doc])* pub const $name: Family = Family { name: $text, help: $help, shape: $shape, labels: &[$($label),*] };)*
        /// All families, in the order of docs/metrics.md.
        pub const FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

families! {
    /// Whether the trace runs.
    UP = "execpath_up", Shape::Gauge, [],
        "1 while sessions are traced; 0 if this host does not allow it, for the reason in execpath_unsupported";
    /// Reason for no trace.
    UNSUPPORTED = "execpath_unsupported", Shape::Gauge, [first("code", 8)],
        "1 for the reason why this host cannot be traced";
    /// Missing abilities.
    DEGRADED = "execpath_degraded", Shape::Gauge, [first("code", 16)],
        "1 for each ability that the tracer lacks on this host: `execpath doctor` explains the codes";
    /// Version.
    BUILD = "execpath_build_info", Shape::Gauge, [first("version", 1)],
        "1, with the version of execpath";
    /// Opened sessions.
    OPENED = "execpath_sessions_opened", Shape::Counter, [KIND],
        "Sessions that opened, or were open when the trace began";
    /// Ended sessions.
    ENDED = "execpath_sessions_ended", Shape::Counter, [KIND, OUTCOME],
        "Sessions that ended, by the result of their command; `merged` turned out to be part of another session";
    /// Open sessions.
    OPEN = "execpath_sessions_open", Shape::Gauge, [KIND],
        "Sessions that are open";
    /// Attempts.
    ATTEMPTS = "execpath_attempts", Shape::Counter, [fixed("reached", || [rungs(), vec![NONE]].concat()), fixed("error", errors)],
        "Ended attempts of clients, by the last stage reached and the error number of the stage that failed";
    /// Start latency.
    START_SECONDS = "execpath_start_seconds", Shape::Histogram(START), [fixed("hop", || [rungs(), vec![TOTAL]].concat())],
        "Time to reach each stage of a start from the stage before, and the whole start (`total`); exemplar: the session's id";
    /// Duration.
    DURATION_SECONDS = "execpath_session_duration_seconds", Shape::Histogram(LIFE), [KIND],
        "Duration of ended sessions; exemplar: the session's id";
    /// Age.
    AGE_SECONDS = "execpath_session_age_seconds", Shape::Histogram(LIFE), [KIND],
        "Age of each open session, observed again at each evaluation: use rate()";
    /// Idle time.
    IDLE_SECONDS = "execpath_session_idle_seconds", Shape::Histogram(LIFE), [KIND],
        "Time without payload of each open session, observed again at each evaluation: use rate()";
    /// Present verdicts.
    ACTIVE = "execpath_verdicts_active", Shape::Gauge, [CODE],
        "Verdicts that hold now, by code of docs/faults";
    /// New verdicts.
    VERDICTS = "execpath_verdicts", Shape::Counter, [CODE],
        "Verdicts that began, by code of docs/faults";
    /// Gaps of ended sessions.
    GAPS = "execpath_gaps", Shape::Counter, [GAP],
        "Gaps in the paths of ended sessions, by reason";
    /// Losses.
    LOST = "execpath_lost", Shape::Counter, [SOURCE],
        "Observations that were lost, by the counter that noticed";
    /// Delays.
    DELAY_SECONDS = "execpath_delay_seconds", Shape::Gauge, [first("source", 4)],
        "Longest delay of reading records, or of the start, since the trace began";
    /// Observations.
    OBSERVATIONS = "execpath_observations", Shape::Counter, [],
        "Observations that were processed";
    /// Evaluations.
    EVALUATIONS = "execpath_evaluations", Shape::Counter, [],
        "Evaluations of all open sessions";
    /// Entries of the kernel's maps.
    MAP_ENTRIES = "execpath_map_entries", Shape::Gauge, [MAP],
        "Entries in the BPF maps that links rest on; a full map loses";
    /// Capacities of the kernel's maps.
    MAP_CAPACITY = "execpath_map_capacity", Shape::Gauge, [MAP],
        "Capacity of those maps";
    /// Sent to the collector.
    SENT = "execpath_otlp_sent", Shape::Counter, [SIGNAL],
        "Spans, log records and data points that the receiver of `--otlp` accepted";
    /// Dropped before or by the collector.
    DROPPED = "execpath_otlp_dropped", Shape::Counter, [SIGNAL],
        "Spans, log records and data points that did not reach the receiver: the queue was full, or the receiver refused them";
    /// Waiting for the collector.
    QUEUED = "execpath_otlp_queued", Shape::Gauge, [SIGNAL],
        "Spans and log records that wait for the receiver";
    /// Processor time.
    CPU = "process_cpu_seconds", Shape::Counter, [],
        "Processor time of execpath itself, in user mode and in the kernel";
    /// Memory.
    RESIDENT = "process_resident_memory_bytes", Shape::Gauge, [],
        "Resident memory of execpath itself";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_together_stay_below_two_thousand() {
        let most: usize = FAMILIES.iter().map(|family| family.most()).sum();
        assert!(most <= 2_000, "{most}");
    }

    #[test]
    fn names_are_distinct_and_have_their_prefix() {
        for (index, family) in FAMILIES.iter().enumerate() {
            assert!(family.name.starts_with(PREFIX) || family.name.starts_with("process_"), "{}", family.name);
            // The suffix is the encoder's.
            assert!(!family.name.ends_with("_total"), "{}", family.name);
            assert!(FAMILIES[..index].iter().all(|other| other.name != family.name), "{}", family.name);
        }
    }
}
