//! The live screen: its contents, its keys, and the state of the terminal afterwards.

mod keys;
mod pictures;
mod run;
mod terminal;
mod test_screen;
