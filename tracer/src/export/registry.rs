//! All families for a scraper: the table of `metrics` registered with prometheus-client.
//!
//! Counters and gauges are read from the [`Series`] at each scrape, in the order of the table. Histograms are metrics of the library,
//! because it makes no exemplar of a histogram that it does not keep.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text, text},
    metrics::{
        MetricType,
        counter::ConstCounter,
        exemplar::HistogramWithExemplars,
        family::{Family as Histograms, MetricConstructor},
        gauge::ConstGauge,
    },
    registry::Registry,
};

use crate::metrics::{FAMILIES, Family, Labels, Observed, Series, Shape, Value};

/// Labels of a series, as name and value.
type Pairs = Vec<(&'static str, Cow<'static, str>)>;
/// The session of an observation. OpenMetrics limits an exemplar to 128 characters; an id has eight.
type Exemplar = [(&'static str, String); 1];

/// Makes the histograms of one family.
#[derive(Clone)]
struct Bounds(&'static [f64]);

impl MetricConstructor<HistogramWithExemplars<Exemplar>> for Bounds {
    fn new_metric(&self) -> HistogramWithExemplars<Exemplar> {
        HistogramWithExemplars::new(self.0.iter().copied())
    }
}

type HistogramFamily = Histograms<Pairs, HistogramWithExemplars<Exemplar>, Bounds>;

/// The histograms of every family.
pub(super) struct Metrics {
    histograms: BTreeMap<&'static str, (&'static Family, HistogramFamily)>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let made = |family: &&'static Family| match family.shape {
            Shape::Histogram(bounds) => {
                Some((family.name, (*family, HistogramFamily::new_with_constructor(Bounds(bounds)))))
            }
            Shape::Counter | Shape::Gauge => None,
        };
        Self { histograms: FAMILIES.iter().filter_map(made).collect() }
    }

    /// Adds observations.
    pub(super) fn observe(&self, observed: &[Observed]) {
        for Observed { family, labels, seconds, session } in observed {
            if let Some((family, histograms)) = self.histograms.get(family) {
                let exemplar = [("session", session.0.to_string())];
                histograms.get_or_create(&pairs(family, labels)).observe(*seconds, Some(exemplar), None);
            }
        }
    }
}

impl Metrics {
    /// The text of a scrape of these counters and gauges, and of the histograms.
    pub(super) fn text(&self, series: Series, format: Format) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Numbers(series)));
        for (family, histograms) in self.histograms.values() {
            registry.register(family.name, family.help, histograms.clone());
        }
        let mut text = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut text, &registry)?,
            Format::Text => prometheus_text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

/// Counters and gauges of one scrape.
struct Numbers(Series);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in FAMILIES {
            let kind = match family.shape {
                Shape::Counter => MetricType::Counter,
                Shape::Gauge => MetricType::Gauge,
                Shape::Histogram(_) => continue,
            };
            if self.0.of(family).next().is_none() {
                continue;
            }
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in self.0.of(family) {
                let Value::Number(number) = *value else { continue };
                let labels = pairs(family, labels);
                let metric = metric.encode_family(&labels)?;
                if family.shape == Shape::Counter {
                    ConstCounter::new(number).encode(metric)?;
                } else {
                    ConstGauge::new(number).encode(metric)?;
                }
            }
        }
        Ok(())
    }
}

fn pairs(family: &Family, labels: &Labels) -> Pairs {
    family.labels.iter().map(|label| label.name).zip(labels.iter().cloned()).collect()
}

/// Format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, for scrapers that do not ask for OpenMetrics.
    Text,
}

impl Format {
    /// The format for a request with this header `Accept`.
    pub(super) fn of(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}
