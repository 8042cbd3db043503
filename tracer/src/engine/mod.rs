//! The pump: observations → (recorder) → correlator → filter → sinks. A live trace and a replay share it and therefore
//! print the same.

mod filter;
mod history;
mod playback;
mod pump;
mod recording;

pub use self::{
    filter::{Filter, Kinds},
    playback::{Playback, pump, replay},
    pump::{Flow, Pump, Setup, Shown, Status, Until, to_measure},
};
