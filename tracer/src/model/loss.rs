//! Names of losses, and units of their counts.

/// Duration of a start that took longer than two seconds. Counted in milliseconds.
pub const LATE_START: &str = "late-start";
/// Delay of records read more than a second after the kernel wrote them. Counted in milliseconds.
pub const BEHIND: &str = "behind";

/// Questions about pre-existing state that were still unanswered when the trace was ready.
pub const UNANSWERED: &str = "unanswered";

/// Unit of a loss count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Records, sockets, processes, questions: the total is their sum.
    Events,
    /// A delay: the total is the longest delay.
    Milliseconds,
}

/// Unit of the loss with this name. Unknown names, of newer versions, count events.
#[must_use]
pub fn unit_of_loss(what: &str) -> Unit {
    match what {
        LATE_START | BEHIND => Unit::Milliseconds,
        _ => Unit::Events,
    }
}

/// Fill of one of the kernel's maps that links rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Name of the map: `watched`, `tracked`.
    pub name: &'static str,
    /// Entries now.
    pub entries: u32,
    /// Entries beyond which the map refuses new ones, and a loss is counted.
    pub capacity: u32,
}
