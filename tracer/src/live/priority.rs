//! The trace's own share of the CPU.
//!
//! At normal priority a tracer on two CPUs with 90 busy processes gets a fortieth of one: the walk over procfs that takes 50 ms
//! on an idle host takes seconds, and what happens meanwhile is not seen. At nice −20 the kernel's weights
//! (kernel/sched/core.c: sched_prio_to_weight) give it two thirds of a CPU. Real-time priority would give it more, and take
//! it from the daemons that are traced.

use rustix::process::{getpriority_process, setpriority_process};

/// The highest priority that is not real-time.
const HIGHEST: i32 = -20;

/// The raised priority of this thread, and of threads that it starts; the old one comes back when this is dropped.
pub(super) struct Raised {
    before: i32,
}

impl Raised {
    /// Raises the priority of the calling thread. `None` where that is not permitted (CAP_SYS_NICE): the trace then competes
    /// like any other process, and reports how late it is.
    pub(super) fn new() -> Option<Self> {
        let before = getpriority_process(None).ok()?;
        match setpriority_process(None, HIGHEST) {
            Ok(()) => Some(Self { before }),
            Err(error) => {
                tracing::debug!(%error, "the tracer runs at normal priority");
                None
            }
        }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // Nothing can be done about a refusal, and the thread is about to end or to idle.
        let _refused = setpriority_process(None, self.before);
    }
}
