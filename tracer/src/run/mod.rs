//! Runs a command such as `kubectl exec` untouched, and reports why it failed.
//!
//! Three processes take part:
//!
//! * the command, in the process group and session of the caller, with the caller's descriptors. It starts at once;
//! * the front, which is the process that the caller started: it relays signals, waits for the command, and exits with
//!   the command's code (`child`);
//! * the observer, in a process group of its own: it attaches the probes beside the running command, and answers the
//!   front's question about the cause (`observer`). The probes of a separate process are detached after the front has
//!   exited, so that detaching delays nobody.
//!
//! `cause` turns what was observed into one line.

mod cause;
mod child;
mod front;
mod message;
mod observer;
mod without_probes;

pub use self::{
    child::{NotStarted, Status},
    front::{Front, Outcome},
    message::OBSERVER,
    observer::{Observer, ObserverError},
};
