//! What recordings and sample sessions look like in every format.

mod recordings;
mod sinks;
