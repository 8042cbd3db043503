//! The live screen: what it shows, what keys do, and what is left of the terminal when it ends.

mod keys;
mod pictures;
mod stage;
mod terminal;
