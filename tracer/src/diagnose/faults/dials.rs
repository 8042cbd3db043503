//! Dials on the path that did not come about, shared by the faults of a port that cannot be reached (F01, F38).

use super::prelude::*;
use crate::model::Reading;

/// The kernel sends a SYN again after one second and after three (net/ipv4/tcp_timer.c: TCP_TIMEOUT_INIT, doubled).
pub(super) const UNANSWERED: Span = Span::from_secs(3);

/// The dial at this rung, if the attempt failed there or waits there for an answer to the SYN. `error` and `waited` name the
/// readings.
pub(super) fn fruitless(
    ctx: &SessionCtx<'_>,
    rung: Rung,
    error: &'static str,
    waited: &'static str,
) -> Option<(RungSeen, Reading)> {
    let attempt = ctx.session.attempt.as_ref()?;
    let failed = attempt.failed().filter(|one| one.rung == rung && one.state == RungState::Failed);
    let waiting = attempt.waiting().filter(|one| one.rung == rung && ctx.is_open());
    match (failed, waiting) {
        (Some(one), _) => {
            let name = match one.errno {
                Some(errno) => errno_name(errno).map_or_else(|| errno.to_string(), str::to_owned),
                // connect(2) itself returned the error, or the server gave up. A user who interrupted kubectl may have been
                // the first to give up, but not one whose kubectl ended with an error.
                None if matches!(ctx.client_exit(), Some(ExitStatus::Code(1..))) => "none at the socket".to_owned(),
                None => return None,
            };
            Some((*one, word(error, name.as_str())))
        }
        (None, Some(one)) => {
            let span = ctx.host.report.now().since(one.at?);
            (span >= UNANSWERED).then(|| (*one, number(waited, span.as_millis(), "ms")))
        }
        (None, None) => None,
    }
}
