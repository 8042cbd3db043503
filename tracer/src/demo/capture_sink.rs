//! A sink that prints nothing and keeps the session, for the summary at the end.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    escape,
    model::{Change, Finding, Link, Report, Role, Session, State},
    sink::{Header, Sink},
};

/// Longest line of the client's output that is repeated.
const LINE: usize = 60;

/// Keeps the latest state of the demo's session.
#[derive(Default)]
pub(super) struct CaptureSink(Captured);

/// Shared storage of the session.
#[derive(Clone, Default)]
pub(super) struct Captured(Arc<Mutex<Option<Session>>>);

impl Captured {
    pub(super) fn take(&self) -> Option<CapturedSession> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(CapturedSession)
    }

    fn keep(&self, session: Session) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

impl CaptureSink {
    pub(super) fn captured(&self) -> Captured {
        self.0.clone()
    }
}

impl Sink for CaptureSink {
    fn host(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        match &finding.change {
            Change::Opened(session) | Change::Changed(session) | Change::Closed(session) => {
                self.0.keep((**session).clone());
            }
            Change::Loss { .. } => {}
        }
        Ok(())
    }

    fn finish(&mut self, _report: &Report) -> io::Result<()> {
        Ok(())
    }
}

/// The session in its last state.
pub(super) struct CapturedSession(Session);

impl CapturedSession {
    pub(super) fn is_closed(&self) -> bool {
        self.0.state == State::Closed
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.0.complete
    }

    /// Texts of its gaps.
    pub(super) fn gaps(&self) -> String {
        self.0.gaps.iter().map(|gap| gap.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// The traced session, and the output of the client.
pub struct TracedSession {
    pub(super) session: CapturedSession,
    pub(super) printed: String,
}

impl TracedSession {
    /// Summary of the session for people, in a few lines.
    #[must_use]
    pub fn summary(&self) -> String {
        let session = &self.session.0;
        let pid = |role: Role| {
            session.hops.iter().find(|hop| hop.role == role).map_or(String::new(), |hop| hop.task.tgid.to_string())
        };
        let port = |to: Role| {
            let link = session.links.iter().find(|link| session.hops.get(link.to).is_some_and(|hop| hop.role == to));
            link.and_then(|link: &Link| link.tcp).map_or(0, |ends| ends.tuple.remote.port())
        };
        let first = self.printed.lines().next().map(|line| escape::str(line, LINE));
        let printed = first.map_or("nothing".to_owned(), |line| format!("\"{line}\""));
        let process = pid(Role::Process);
        let began = if process.is_empty() {
            "could not start it".to_owned()
        } else {
            format!("started it as pid {process} in a mount namespace of its own, and ended")
        };
        [
            "Summary: a command typed at one side of a cluster ran on the other side.".to_owned(),
            format!(
                "  The client cannot run anything on a node: it asks the API server, on port {}.",
                port(Role::ApiServer)
            ),
            format!(
                "  The API server dials the node's kubelet, on port {}: a connection for this session only.",
                port(Role::Kubelet)
            ),
            format!(
                "  The kubelet does not run it either: it dials an address that the runtime gives it (port {}).",
                port(Role::Runtime)
            ),
            "  The runtime makes FIFOs named by the exec id; the shim lets runc start the command under the same id."
                .to_owned(),
            format!("  runc (pid {}) {began}.", pid(Role::Runc)),
            format!("  The output came back through all of them: {printed}."),
            "On a cluster: run `execpath trace` on a node, and `kubectl exec` on any machine.".to_owned(),
        ]
        .join("\n")
    }
}
