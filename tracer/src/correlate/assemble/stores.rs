//! etcd behind the API server.

use super::upstream::{Builder, link};
use crate::correlate::state::{Dependency, sockets::SocketIdx};
use crate::model::{GapCode, Hop, Link, LinkKind, Role, Want};

impl Builder<'_> {
    /// Adds etcd behind the API server. All requests share the API server's connections (gRPC over HTTP/2, one
    /// connection for each kind of object), so a single connection cannot be attributed.
    pub(in crate::correlate) fn add_etcd(&mut self, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        let Some(server) = hops.iter().rposition(|hop| hop.role == Role::ApiServer) else { return };
        let Some(task) = hops.get(server).map(|hop| hop.task) else { return };
        let state = self.state;
        let open = |idx: &&SocketIdx| state.sockets.get(**idx).is_some_and(|socket| socket.closed.is_none());
        let stores: Vec<SocketIdx> = state.stores.get(&task).into_iter().flatten().filter(open).copied().collect();
        let Some(near) = stores.first().and_then(|idx| state.sockets.get(*idx)) else { return };
        let paired = stores.iter().find_map(|idx| {
            let store = state.sockets.get(*idx)?;
            let far = state.sockets.get(store.peer?)?;
            Some((far.owner?, state.sockets.proof(store, far)))
        });
        // The peer is unknown: on another host, or to be searched for.
        let Some((etcd, (confidence, evidence))) = paired else {
            match near.tuple {
                Some(tuple) if near.peer_absent => self.beyond.push(("etcd", tuple.remote)),
                Some(tuple) => self.wants.push(Want::Peer { tuple, netns: near.netns, isn: near.isn }),
                None => {}
            }
            return;
        };
        for idx in &stores {
            self.dependencies.push(Dependency::Socket(*idx));
        }
        let hop = self.hop(etcd, Role::Etcd);
        hops.push(hop);
        let to = hops.len() - 1;
        links.push(Link { persistent: true, ..link(server, to, LinkKind::Tcp, confidence, evidence) });
        let text = "connection to etcd not attributed: all requests share them, and the answer may have come from \
                    memory";
        self.gap_at(GapCode::Unjoined, (server, to), text);
    }
}
