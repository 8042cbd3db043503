//! The live screen as data: a [`State`] that messages update, and functions that paint it. It uses no terminal, clock
//! or thread, so that tests can produce every screen. `watch` drives it on a terminal.
//!
//! [`Msg`] → [`State::update`] → [`Effect`]s for the caller; [`draw`] paints the state.

mod area;
mod clock;
mod details;
mod keys;
mod list;
mod numbers;
mod paint;
mod path;
mod render;
mod state;
mod theme;
mod update;

pub use clock::Clock;
pub use keys::HELP;
pub use render::draw;
pub use state::{Focus, Sort, State};
pub use theme::Theme;
pub use update::{Effect, Msg};
