//! Two samples of one measurement, and the distance at which they show a standstill.

use crate::model::{Series, Span};

/// Least distance of two samples for "nothing moved" to be evidence. It is longer than any scheduling delay under load,
/// needs no ping of kubectl's (every 5 s), and is a tolerable wait for the user.
pub const APART: Span = Span::from_secs(2);

/// The last sample and the one before it, if they are at least [`APART`] apart.
pub(super) fn both<T>(series: &Series<T>) -> Option<(&T, &T)> {
    series.earlier().filter(|(_, span)| *span >= APART).map(|(before, _)| (&series.last, before))
}

/// True if `is` holds in the last two samples, and these are at least [`APART`] apart.
pub(super) fn twice<T>(series: &Series<T>, is: impl Fn(&T) -> bool) -> bool {
    both(series).is_some_and(|(last, before)| is(last) && is(before))
}
