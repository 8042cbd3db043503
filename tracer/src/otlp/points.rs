//! Series as data points: the same families, names and labels as the endpoint for Prometheus.

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, metric::Data,
        number_data_point::Value as Number,
    },
};

use super::attributes::Attributes;
use crate::metrics::{FAMILIES, Family, Labels, Series, Shape, Value};

/// All series at a moment. `from` is the moment at which they were all zero; both in nanoseconds of UTC.
#[must_use]
pub fn points(series: &Series, from: u64, at: u64) -> Vec<Metric> {
    FAMILIES.iter().filter_map(|family| metric(family, series, from, at)).collect()
}

/// Number of data points of these metrics.
#[must_use]
pub fn count(metrics: &[Metric]) -> u64 {
    let points = metrics.iter().map(|metric| match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => 0,
    });
    points.sum::<usize>() as u64
}

fn metric(family: &Family, series: &Series, from: u64, at: u64) -> Option<Metric> {
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || -> Vec<NumberDataPoint> {
        let of = |(labels, value): (&Labels, &Value)| match value {
            Value::Number(number) => Some(NumberDataPoint {
                attributes: labeled(family, labels),
                start_time_unix_nano: from,
                time_unix_nano: at,
                value: Some(Number::AsDouble(*number)),
                ..NumberDataPoint::default()
            }),
            Value::Buckets(..) => None,
        };
        series.of(family).filter_map(of).collect()
    };
    let data = match family.shape {
        Shape::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Shape::Counter => {
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true })
        }
        Shape::Histogram(bounds) => {
            let of = |(labels, value): (&Labels, &Value)| match value {
                Value::Buckets(buckets, sum) => Some(HistogramDataPoint {
                    attributes: labeled(family, labels),
                    start_time_unix_nano: from,
                    time_unix_nano: at,
                    count: buckets.iter().sum(),
                    sum: Some(*sum),
                    bucket_counts: buckets.clone(),
                    explicit_bounds: bounds.to_vec(),
                    ..HistogramDataPoint::default()
                }),
                Value::Number(_) => None,
            };
            let data_points = series.of(family).filter_map(of).collect();
            Data::Histogram(Histogram { data_points, aggregation_temporality: cumulative })
        }
    };
    series.of(family).next()?;
    Some(Metric {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        data: Some(data),
        ..Metric::default()
    })
}

fn labeled(family: &Family, labels: &Labels) -> Vec<KeyValue> {
    let pairs = family.labels.iter().zip(labels);
    pairs.fold(Attributes::default(), |all, (label, value)| all.text(label.name, Some(value))).done()
}
