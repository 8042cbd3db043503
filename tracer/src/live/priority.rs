//! The trace's own share of the CPU.
//!
//! At normal priority a tracer on two CPUs with 90 busy processes gets a fortieth of one CPU. The walk over procfs then takes
//! seconds instead of 50 ms, and acts in that time are missed. At nice −20 the kernel's weights (kernel/sched/core.c:
//! sched_prio_to_weight) give the tracer two thirds of a CPU. Real-time priority would take CPU time from the traced daemons.

use rustix::process::{getpriority_process, setpriority_process};

/// Highest priority below real-time.
const HIGHEST: i32 = -20;

/// Raised priority of this thread and of the threads it starts. Dropping the value restores the old priority.
pub(super) struct RaisedPriority {
    before: i32,
}

impl RaisedPriority {
    /// Raises the priority of the calling thread. `None` without CAP_SYS_NICE: the trace then competes like any other process, and
    /// reports its delay.
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

impl Drop for RaisedPriority {
    fn drop(&mut self) {
        // A refusal does no harm: the thread is about to end or to idle.
        let _refused = setpriority_process(None, self.before);
    }
}
