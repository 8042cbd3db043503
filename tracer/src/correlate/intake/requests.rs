//! What kubectl asks of the API server, and where that keeps it: `kubectl get`, `kubectl create` and the like.

use crate::correlate::{
    Correlator,
    assemble::upstream::{Builder, link},
    state::{Part, World, sockets::SocketNo},
};
use crate::model::{GapCode, Hop, Link, LinkKind, Role, SocketInfo, SocketRole, TaskKey, Want};

impl Correlator {
    /// A connection to etcd: an API server's is the way to what it keeps.
    pub(in crate::correlate) fn perhaps_store(&mut self, task: TaskKey, no: SocketNo, socket: &SocketInfo) {
        let to_etcd = socket.tuple.is_some_and(|tuple| self.world.places.is_etcd_port(tuple.remote.port()));
        if !to_etcd || socket.role == Some(SocketRole::Accepted) {
            return;
        }
        let stores = self.world.stores.entry(task).or_default();
        if stores.contains(&no) {
            return;
        }
        if stores.len() < self.world.caps.stores {
            stores.push(no);
        } else {
            self.world.refused.add("stores-full", 1);
        }
    }
}

impl World {
    /// Forgets connections that are closed, and those of processes that are gone.
    pub(in crate::correlate) fn forget_stores(&mut self) {
        let (processes, sockets) = (&self.processes, &self.sockets);
        self.stores.retain(|task, stores| {
            stores.retain(|no| sockets.get(*no).is_some_and(|socket| socket.closed.is_none()));
            processes.get(*task).is_some() && !stores.is_empty()
        });
    }
}

impl Builder<'_> {
    /// etcd, behind the API server. Every request goes over connections that all share (gRPC over HTTP/2, one connection for
    /// each kind of object), so which of them is not told.
    pub(in crate::correlate) fn kept_by(&mut self, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        let Some(server) = hops.iter().rposition(|hop| hop.role == Role::ApiServer) else { return };
        let Some(task) = hops.get(server).map(|hop| hop.task) else { return };
        let world = self.world;
        let open = |no: &&SocketNo| world.sockets.get(**no).is_some_and(|socket| socket.closed.is_none());
        let stores: Vec<SocketNo> = world.stores.get(&task).into_iter().flatten().filter(open).copied().collect();
        let Some(near) = stores.first().and_then(|no| world.sockets.get(*no)) else { return };
        let paired = stores.iter().find_map(|no| {
            let store = world.sockets.get(*no)?;
            let far = world.sockets.get(store.peer?)?;
            Some((far.owner?, world.sockets.proof(store, far)))
        });
        let Some((etcd, (confidence, evidence))) = paired else {
            match near.tuple {
                Some(tuple) if near.peer_absent => self.beyond.push(("etcd", tuple.remote)),
                Some(tuple) => self.wants.push(Want::Peer { tuple, netns: near.netns, isn: near.isn }),
                None => {}
            }
            return;
        };
        for no in &stores {
            self.parts.push(Part::Socket(*no));
        }
        let hop = self.hop(etcd, Role::Etcd);
        hops.push(hop);
        let to = hops.len() - 1;
        links.push(Link { persistent: true, ..link(server, to, LinkKind::Tcp, confidence, evidence) });
        let text = "all requests share the connections to etcd: which of them carried this one, if it was not answered out of memory, is not seen";
        self.gap_at(GapCode::Unjoined, (server, to), text);
    }
}
