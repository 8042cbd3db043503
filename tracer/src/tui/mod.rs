//! The live screen, as data: a [`State`] that messages fold into, and a picture of it. Knows no terminal, clock or thread, so that
//! every screen can be tested; `watch` has the terminal.
//!
//! [`Msg`] → [`State::update`] → [`Effect`]s for whoever has the sessions; [`draw`] paints the state.

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
