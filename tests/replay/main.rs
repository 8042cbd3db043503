//! Recordings and sample sessions in every output format.

mod at_moment;
mod cut;
mod diagnosis;
mod explained;
mod field;
mod fixtures;
mod idle;
mod lab;
mod laws;
mod merged;
mod moments;
mod options;
mod parts;
mod pictures;
mod recordings;
mod schema;
mod sinks;
mod waterfall;
