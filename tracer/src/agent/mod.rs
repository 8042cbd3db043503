//! What a recorder that runs for weeks needs besides a trace: reload on SIGHUP, and messages to its service manager.

mod notify;
mod requests;

pub use self::{notify::Notify, requests::Requests};
