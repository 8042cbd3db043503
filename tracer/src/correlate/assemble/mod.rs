//! Builds sessions from the state, without changing it.

mod attempt;
pub(in crate::correlate) mod downstream;
pub(in crate::correlate) mod outcome;
pub(in crate::correlate) mod roles;
pub(in crate::correlate) mod starts;
pub(in crate::correlate) mod stores;
pub(in crate::correlate) mod upstream;
pub(in crate::correlate) mod user;
