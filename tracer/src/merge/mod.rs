//! Merges recordings of several hosts into one. Ids of kernels get the number of their host, and all times are set by
//! one clock. A statement about one host alone ("no process here has the other end") is dropped if another recording
//! covers that host. Sessions are left to the correlator, which finds them in the merged recording.

mod clocks;
mod following;
mod hosts;
mod origin;
mod sequence;
mod survey;

pub use self::{
    clocks::{By, Clock},
    following::{Following, FutureMerge},
    hosts::{Input, Merge},
    origin::{Fault, FromStream, Origin},
};
