//! Acts that the tracer may have missed: the one place that answers this question.
//!
//! An act may have been missed for three reasons:
//! * Records were lost, or a full table had no room. [`Losses`](super::losses::Losses) has the times.
//! * The daemon was at work before the tracer attached to it. [`Coverage`] has the times of attach and scan.
//! * The snapshot is still being read, so that facts of the same time are outstanding. [`State::readiness`]
//!   waits for them.
//!
//! The kind of a session often rests on the absence of an act: an exec without a stream is a probe. [`Missed`]
//! lists the absences that prove nothing.

use super::{
    State,
    anchors::{Exec, What},
};
use crate::{
    correlate::limits::{LOSS_REPORTED_WITHIN, PROBE_WITHIN, SNAPSHOT_TAKEN_IN, STREAM_WITHIN},
    model::BootTime,
};

/// Part of a daemon's work that records and snapshots cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) enum Coverage {
    /// All acts: the tracer attached at the daemon's start, or long ago. Also the default for recordings of older
    /// formats, which do not report coverage.
    #[default]
    Full,
    /// Acts since this time. A scan of the daemon's open files is outstanding.
    Attached(BootTime),
    /// Acts since attach, and all files that were open at this time. Work that began before attach and had
    /// finished by then may have been missed.
    Scanned(BootTime),
}

impl Coverage {
    /// Notes that the tracer attached to the daemon. The first report counts.
    pub(in crate::correlate) fn attach(&mut self, at: BootTime) {
        if *self == Self::Full {
            *self = Self::Attached(at);
        }
    }

    /// Notes a scan of the daemon's open files. Returns the time of the attach; `None` if no scan was outstanding.
    pub(in crate::correlate) fn scan(&mut self, at: BootTime) -> Option<BootTime> {
        let Self::Attached(attached) = *self else { return None };
        *self = Self::Scanned(at);
        Some(attached)
    }

    /// True between attach and scan.
    pub(in crate::correlate) fn is_scan_pending(self) -> bool {
        matches!(self, Self::Attached(_))
    }

    /// True if the daemon's open files were scanned at or after `at`.
    pub(in crate::correlate) fn is_scanned_since(self, at: BootTime) -> bool {
        matches!(self, Self::Scanned(scanned) if scanned >= at)
    }
}

/// Facts behind a session that are in doubt because acts may have been missed.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::correlate) struct Missed {
    /// Set when the stream may belong to another exec. A `g` without a goroutine id, or a thread, named the
    /// stream, and records were lost between the stream's start and this act.
    pub(in crate::correlate) stream: bool,
    /// Set when the process may be a child of the command. It was named by its first execve in the container,
    /// records were lost since the exec began, and no pid file confirms it.
    pub(in crate::correlate) process: bool,
    /// Set when records were lost since the anchor was first seen.
    pub(in crate::correlate) since_start: bool,
    /// Set when a lost record may change the kind of the session.
    pub(in crate::correlate) kind_by_loss: bool,
    /// Set when an act from before attach may change the kind of the session.
    pub(in crate::correlate) kind_by_attach: bool,
}

/// State of knowledge about an anchor that may become a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum Readiness {
    /// Its session can be built.
    Ready,
    /// More facts are outstanding until this time.
    At(BootTime),
    /// Only a further fact can make it ready.
    OnFact,
}

impl State {
    /// Facts of an anchor that losses and late attach put in doubt.
    pub(in crate::correlate) fn missed(&self, exec: &Exec) -> Missed {
        let opened = exec.stream.and_then(|idx| self.sockets.get(idx)).map(|stream| stream.since);
        let stream = opened.zip(exec.stream_unidentified).is_some_and(|(since, at)| self.losses.between(since, at));
        let is_confirmed = exec.process.is_some_and(|process| exec.pid_file_says == Some(process.tgid));
        let process = !is_confirmed && exec.process_since.is_some_and(|at| self.losses.between(exec.since, at));
        let mut missed = Missed { stream, process, since_start: self.losses.since(exec.since), ..Missed::default() };
        missed.kind_by_loss = self.kind_rests_on_loss(exec, missed);
        missed.kind_by_attach = self.kind_rests_on_attach(exec, missed);
        missed
    }

    /// True if the kind rests on the absence of an act whose record may be lost.
    fn kind_rests_on_loss(&self, exec: &Exec, missed: Missed) -> bool {
        match exec.what {
            // The kubelet's end of the leg.
            What::Leg => missed.since_start,
            // The runtime's FIFOs, made right before `runc exec`.
            What::Local => self.losses.between(exec.since.minus(LOSS_REPORTED_WITHIN), exec.since),
            // The stream for which the FIFOs were made. Most losses leave a trace: the act names a connection
            // without a record. Blinding ones leave none.
            What::Exec => {
                let from = exec.since.minus(STREAM_WITHIN);
                let is_lost = exec.for_unknown && self.losses.between(from, exec.since);
                let has_none = exec.stream.is_none() && (is_lost || self.losses.blinding_between(from, exec.since));
                missed.stream || has_none
            }
            What::Unnamed | What::Stream | What::Asked | What::Request | What::Start | What::Beside => false,
        }
    }

    /// True if the kind rests on the absence of an act from before the runtime's coverage began.
    fn kind_rests_on_attach(&self, exec: &Exec, missed: Missed) -> bool {
        let runtime = exec.runtime.and_then(|runtime| self.processes.get(runtime));
        let coverage = runtime.map(|runtime| runtime.coverage).unwrap_or_default();
        match exec.what {
            // The runtime's FIFOs.
            What::Local => exec.under_way,
            // The stream, if exec and stream were gone by the time of the scan.
            What::Exec => {
                let exit = exec.exit.filter(|_| !missed.process).map(|(at, _)| at);
                let ended = exit.or(exec.start_failed);
                let has_none = exec.stream.is_none() || missed.stream;
                exec.under_way && has_none && ended.is_some_and(|ended| coverage.is_scanned_since(ended))
            }
            What::Unnamed | What::Stream | What::Leg | What::Asked | What::Request | What::Start | What::Beside => {
                false
            }
        }
    }

    /// Decides whether enough is known of an anchor to build its session.
    pub(in crate::correlate) fn readiness(&self, exec: &Exec, now: BootTime) -> Readiness {
        // An exec that was over before the tracer began: its process is gone, its FIFOs are still open. With an open
        // connection a client is still waiting for the end, and the exec is a session.
        let stream = exec.stream.and_then(|idx| self.sockets.get(idx));
        let has_client = stream.is_some_and(|stream| stream.closed.is_none() && stream.peer.is_some());
        let is_gone = exec.runc.is_none() && exec.process.is_none() && !has_client;
        if exec.preexisting && exec.what == What::Exec && is_gone {
            return Readiness::OnFact;
        }
        // The rest of the snapshot is still to be read.
        let read_at = exec.since.plus(SNAPSHOT_TAKEN_IN);
        if exec.preexisting && now < read_at {
            return Readiness::At(read_at);
        }
        // The scan of the runtime's files will separate exec and probe.
        if self.is_scan_pending(exec) {
            return Readiness::OnFact;
        }
        // An exec of dockershim's prints, stays or reads; a probe ends soon.
        let decided_at = exec.since.plus(PROBE_WITHIN);
        if now < decided_at && exec.exit.is_none() && self.may_be_either(exec) {
            return Readiness::At(decided_at);
        }
        Readiness::Ready
    }

    /// True if the tracer attached to the runtime during this exec, and the scan may still reveal its stream.
    fn is_scan_pending(&self, exec: &Exec) -> bool {
        let runtime = exec.runtime.and_then(|runtime| self.processes.get(runtime));
        exec.what == What::Exec
            && !exec.preexisting
            && exec.stream.is_none()
            && runtime.is_some_and(|runtime| runtime.coverage.is_scan_pending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan_covers_what_was_open_at_its_time() {
        let at = BootTime;
        let mut coverage = Coverage::default();
        assert_eq!(coverage.scan(at(1)), None, "nothing is outstanding under full coverage");
        assert!(!coverage.is_scanned_since(at(0)));
        coverage.attach(at(10));
        coverage.attach(at(20));
        assert!(coverage.is_scan_pending());
        assert_eq!(coverage.scan(at(30)), Some(at(10)), "the first attach counts");
        assert!(!coverage.is_scan_pending());
        assert!(coverage.is_scanned_since(at(30)) && !coverage.is_scanned_since(at(31)));
    }
}
