//! What one fact changes, by kind of fact.

pub(in crate::correlate) mod capacity;
pub(in crate::correlate) mod kubectl;
pub(in crate::correlate) mod pods;
pub(in crate::correlate) mod processes;
pub(in crate::correlate) mod requests;
pub(in crate::correlate) mod streams;
