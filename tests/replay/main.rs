//! Recordings and sample sessions in every output format.

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
mod then;
