//! Values of all series, bounded by the table.

use std::{borrow::Cow, collections::BTreeMap};

use smallvec::SmallVec;

use super::table::{Family, OTHER, Shape, Values};

/// Values of a family's labels, in its order.
pub type Labels = SmallVec<[Cow<'static, str>; 2]>;

/// Longest value of a label, in bytes.
const LONGEST: usize = 64;

/// A value of one series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram: observations at or below each bound and above the one before, those above all bounds, and the sum of all.
    Buckets(Vec<u64>, f64),
}

/// All series.
#[derive(Clone, Debug, Default)]
pub struct Series {
    families: BTreeMap<&'static str, BTreeMap<Labels, Value>>,
}

impl Series {
    /// Adds to a counter.
    pub fn add(&mut self, family: &'static Family, labels: &[Cow<'static, str>], count: u64) {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let count = count as f64;
        if let Value::Number(number) = self.entry(family, labels) {
            *number += count;
        }
    }

    /// Sets a gauge, or a counter that is counted elsewhere.
    pub fn set(&mut self, family: &'static Family, labels: &[Cow<'static, str>], value: f64) {
        *self.entry(family, labels) = Value::Number(value);
    }

    /// Raises a gauge to this value.
    pub fn raise(&mut self, family: &'static Family, labels: &[Cow<'static, str>], value: f64) {
        if let Value::Number(number) = self.entry(family, labels) {
            *number = number.max(value);
        }
    }

    /// Observes a value. Returns the labels of the series, after their bound.
    pub fn observe(&mut self, family: &'static Family, labels: &[Cow<'static, str>], seconds: f64) -> Labels {
        let labels = self.bounded(family, labels);
        let Shape::Histogram(bounds) = family.shape else { return labels };
        let entry = self.families.entry(family.name).or_default().entry(labels.clone());
        if let Value::Buckets(buckets, sum) = entry.or_insert_with(|| Value::Buckets(vec![0; bounds.len() + 1], 0.0)) {
            let at = bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len());
            buckets.iter_mut().skip(at).take(1).for_each(|bucket| *bucket += 1);
            *sum += seconds;
        }
        labels
    }

    /// Removes all series of a family, or sets them to 0, so that a series once seen does not vanish between scrapes.
    pub fn zero(&mut self, family: &'static Family) {
        for value in self.families.get_mut(family.name).into_iter().flat_map(BTreeMap::values_mut) {
            *value = Value::Number(0.0);
        }
    }

    /// Series of a family, ordered by labels.
    pub fn of(&self, family: &Family) -> impl Iterator<Item = (&Labels, &Value)> {
        self.families.get(family.name).into_iter().flatten()
    }

    /// Number of a series; 0 if it does not exist.
    #[must_use]
    pub fn number(&self, family: &Family, labels: &[&str]) -> f64 {
        let is_same = |of: &Labels| of.iter().map(|value| &**value).eq(labels.iter().copied());
        let found = self.of(family).find(|(of, _)| is_same(of));
        found.map_or(0.0, |(_, value)| match value {
            Value::Number(number) => *number,
            Value::Buckets(..) => 0.0,
        })
    }

    fn entry(&mut self, family: &'static Family, labels: &[Cow<'static, str>]) -> &mut Value {
        let labels = self.bounded(family, labels);
        self.families.entry(family.name).or_default().entry(labels).or_insert(Value::Number(0.0))
    }

    /// Replaces each value beyond the bound of its label.
    fn bounded(&self, family: &'static Family, labels: &[Cow<'static, str>]) -> Labels {
        let known = self.families.get(family.name);
        let mut bounded = Labels::new();
        for (index, label) in family.labels.iter().enumerate() {
            let value = labels.get(index).filter(|value| value.len() <= LONGEST);
            let value = value.filter(|value| match label.values {
                Values::Fixed(values) => values().iter().any(|fixed| fixed == value),
                Values::First(most) => {
                    let mut seen: Vec<&str> =
                        known.into_iter().flatten().filter_map(|(of, _)| of.get(index)).map(|of| &**of).collect();
                    seen.sort_unstable();
                    seen.dedup();
                    seen.contains(&&***value) || seen.iter().filter(|seen| **seen != OTHER).count() < most
                }
            });
            bounded.push(value.cloned().unwrap_or(Cow::Borrowed(OTHER)));
        }
        bounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::{LOST, START_SECONDS, VERDICTS};

    #[test]
    fn values_beyond_the_bound_become_other() {
        let mut series = Series::default();
        for number in 0..1_000 {
            series.add(&LOST, &[format!("source-{number}").into()], 1);
        }
        series.add(&LOST, &["source-3".into()], 1);
        series.add(&VERDICTS, &["F99".into()], 1);
        series.add(&VERDICTS, &["x".repeat(100).into()], 1);
        assert_eq!(series.of(&LOST).count(), LOST.most());
        assert_eq!(series.number(&LOST, &["source-3"]), 2.0);
        assert_eq!(series.number(&LOST, &[OTHER]), 960.0);
        assert_eq!(series.number(&VERDICTS, &[OTHER]), 2.0);
    }

    #[test]
    fn observation_falls_into_the_bucket_of_its_bound() {
        let mut series = Series::default();
        for seconds in [0.001, 0.0011, 100.0] {
            series.observe(&START_SECONDS, &["total".into()], seconds);
        }
        let (_, value) = series.of(&START_SECONDS).next().unwrap();
        let Value::Buckets(buckets, sum) = value else { panic!("{value:?}") };
        assert_eq!((buckets[0], buckets[1], *buckets.last().unwrap()), (1, 1, 1));
        assert!((sum - 100.0021).abs() < 1e-9, "{sum}");
    }
}
