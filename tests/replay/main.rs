//! Recordings and sample sessions in every output format.

mod at_moment;
mod diagnosis;
mod explained;
mod field;
mod fixtures;
mod idle;
mod lab;
mod laws;
mod merged;
mod moments;
mod parts;
mod pictures;
mod recordings;
mod schema;
mod sinks;
