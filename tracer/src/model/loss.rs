//! Names of losses, and what the count of each is in.

/// The start of the trace took longer than two seconds. Counted in milliseconds.
pub const LATE_START: &str = "late-start";
/// Records were read more than a second after the kernel wrote them. Counted in milliseconds.
pub const BEHIND: &str = "behind";

/// Questions about what existed before the trace that were not answered when it was ready.
pub const UNANSWERED: &str = "unanswered";

/// What the count of a loss is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Records, sockets, processes, questions: a total is their sum.
    Events,
    /// A delay: a total is the longest one.
    Milliseconds,
}

/// The unit of the loss of that name. Unknown names, of newer versions, count events.
#[must_use]
pub fn unit_of_loss(what: &str) -> Unit {
    match what {
        LATE_START | BEHIND => Unit::Milliseconds,
        _ => Unit::Events,
    }
}
