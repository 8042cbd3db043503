//! Acts that the tracer may have missed: the one place that answers this question.
//!
//! An act may have been missed for three reasons:
//! * Records were lost, or a full table had no room. [`Losses`](super::losses::Losses) has the times.
//! * The daemon was at work before the tracer attached to it. Its [`Coverage`](super::processes::Coverage) has
//!   the times of attach and scan.
//! * The snapshot is still being read, so that facts of the same time are outstanding. [`State::readiness`]
//!   waits for them.
//!
//! The kind of a session often rests on the absence of an act: an exec without a stream is a probe. [`Missed`]
//! lists the absences that prove nothing.

use super::{
    State,
    anchor::{Anchor, AnchorKind},
};
use crate::{
    correlate::limits::{LOSS_REPORTED_WITHIN, PROBE_WITHIN, SNAPSHOT_TAKEN_IN, STREAM_WITHIN},
    model::BootTime,
};

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
    pub(in crate::correlate) fn missed(&self, anchor: &Anchor) -> Missed {
        let opened = anchor.stream().and_then(|idx| self.sockets.get(idx)).map(|stream| stream.since);
        let unidentified = anchor.as_exec().and_then(|exec| exec.stream.unidentified);
        let stream = opened.zip(unidentified).is_some_and(|(since, at)| self.losses.between(since, at));
        let is_confirmed = anchor.process().is_some_and(|process| anchor.pid_file_says() == Some(process.tgid));
        let process_since = anchor.launch().and_then(|launch| launch.process_since);
        let process = !is_confirmed && process_since.is_some_and(|at| self.losses.between(anchor.since, at));
        let mut missed = Missed { stream, process, since_start: self.losses.since(anchor.since), ..Missed::default() };
        missed.kind_by_loss = self.kind_rests_on_loss(anchor, missed);
        missed.kind_by_attach = self.kind_rests_on_attach(anchor, missed);
        missed
    }

    /// True if the kind rests on the absence of an act whose record may be lost.
    fn kind_rests_on_loss(&self, anchor: &Anchor, missed: Missed) -> bool {
        match anchor.kind() {
            // The kubelet's end of the leg.
            AnchorKind::Leg => missed.since_start,
            // The runtime's FIFOs, made right before `runc exec`.
            AnchorKind::LocalExec => self.losses.between(anchor.since.minus(LOSS_REPORTED_WITHIN), anchor.since),
            // The stream for which the FIFOs were made. Most losses leave a trace: the act names a connection
            // without a record. Blinding ones leave none.
            AnchorKind::Exec => {
                let from = anchor.since.minus(STREAM_WITHIN);
                let for_unknown = anchor.as_exec().is_some_and(|exec| exec.stream.for_unknown);
                let is_lost = for_unknown && self.losses.between(from, anchor.since);
                let has_none =
                    anchor.stream().is_none() && (is_lost || self.losses.blinding_between(from, anchor.since));
                missed.stream || has_none
            }
            AnchorKind::UnnamedExec
            | AnchorKind::Stream
            | AnchorKind::PendingRequest
            | AnchorKind::ApiRequest
            | AnchorKind::FirstContainer
            | AnchorKind::FurtherContainer => false,
        }
    }

    /// True if the kind rests on the absence of an act from before the runtime's coverage began.
    fn kind_rests_on_attach(&self, anchor: &Anchor, missed: Missed) -> bool {
        let runtime = anchor.runtime().and_then(|runtime| self.processes.get(runtime));
        let under_way = anchor.as_exec().is_some_and(|exec| exec.under_way);
        let coverage = runtime.map(|runtime| runtime.coverage).unwrap_or_default();
        match anchor.kind() {
            // The runtime's FIFOs.
            AnchorKind::LocalExec => under_way,
            // The stream, if exec and stream were gone by the time of the scan.
            AnchorKind::Exec => {
                let exit = anchor.exit().filter(|_| !missed.process).map(|(at, _)| at);
                let ended = exit.or(anchor.start_failed());
                let has_none = anchor.stream().is_none() || missed.stream;
                under_way && has_none && ended.is_some_and(|ended| coverage.is_scanned_since(ended))
            }
            AnchorKind::UnnamedExec
            | AnchorKind::Stream
            | AnchorKind::Leg
            | AnchorKind::PendingRequest
            | AnchorKind::ApiRequest
            | AnchorKind::FirstContainer
            | AnchorKind::FurtherContainer => false,
        }
    }

    /// Decides whether enough is known of an anchor to build its session.
    pub(in crate::correlate) fn readiness(&self, anchor: &Anchor, now: BootTime) -> Readiness {
        // An exec that was over before the tracer began: its process is gone, its FIFOs are still open. With an open
        // connection a client is still waiting for the end, and the exec is a session.
        let stream = anchor.stream().and_then(|idx| self.sockets.get(idx));
        let has_client = stream.is_some_and(|stream| stream.closed.is_none() && stream.peer.is_some());
        let is_gone = anchor.runc().is_none() && anchor.process().is_none() && !has_client;
        if anchor.preexisting && anchor.kind() == AnchorKind::Exec && is_gone {
            return Readiness::OnFact;
        }
        // The rest of the snapshot is still to be read.
        let read_at = anchor.since.plus(SNAPSHOT_TAKEN_IN);
        if anchor.preexisting && now < read_at {
            return Readiness::At(read_at);
        }
        // The scan of the runtime's files will separate exec and probe.
        if self.is_scan_pending(anchor) {
            return Readiness::OnFact;
        }
        // An exec by dockershim writes output, goes on or takes input; a probe ends soon.
        let decided_at = anchor.since.plus(PROBE_WITHIN);
        if now < decided_at && anchor.exit().is_none() && self.may_be_probe_or_exec(anchor) {
            return Readiness::At(decided_at);
        }
        Readiness::Ready
    }

    /// True if the tracer attached to the runtime during this exec, and the scan may still reveal its stream.
    fn is_scan_pending(&self, anchor: &Anchor) -> bool {
        let runtime = anchor.runtime().and_then(|runtime| self.processes.get(runtime));
        anchor.kind() == AnchorKind::Exec
            && !anchor.preexisting
            && anchor.stream().is_none()
            && runtime.is_some_and(|runtime| runtime.coverage.is_scan_pending())
    }
}
