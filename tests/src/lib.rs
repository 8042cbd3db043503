//! Shared by the test targets.

pub mod samples;
