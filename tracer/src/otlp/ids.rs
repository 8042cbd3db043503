//! Ids of traces and spans: hashes of stable identities, so that the same session has the same trace in every export.

use sha2::{Digest, Sha256};

use crate::model::SessionId;

/// Identity of a trace, and of its spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceIds {
    trace: [u8; 32],
}

/// A span within a session.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Session,
    Hop(usize),
    Link(usize),
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that parts cannot run into each other.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl TraceIds {
    /// Ids of a session on a host with this boot id.
    pub(super) fn of_session(boot_id: &str, session: &SessionId) -> Self {
        Self { trace: hash(&[b"session", boot_id.as_bytes(), session.0.as_bytes()]) }
    }

    /// Ids that every host derives from the client's end of a connection.
    pub(super) fn of_client(address: std::net::SocketAddr) -> Self {
        Self { trace: hash(&[b"client", address.to_string().as_bytes()]) }
    }

    /// The trace's id: 16 bytes, never all zero in practice.
    pub(super) fn trace(&self) -> Vec<u8> {
        self.trace[..16].to_vec()
    }

    /// The id of a span: 8 bytes.
    pub(super) fn span(&self, of: Of) -> Vec<u8> {
        let (kind, index) = match of {
            Of::Session => (0_u8, 0),
            Of::Hop(index) => (1, index),
            Of::Link(index) => (2, index),
        };
        hash(&[&self.trace, &[kind], &(index as u64).to_le_bytes()])[..8].to_vec()
    }
}
