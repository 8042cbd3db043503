//! What kubectl asks of the API server, and where that keeps it: `kubectl get`, `kubectl create` and the like.

use crate::correlate::{
    Correlator,
    state::{State, sockets::SocketIdx},
};
use crate::model::{SocketInfo, SocketRole, TaskKey};

impl Correlator {
    /// A connection to etcd: an API server's is the way to what it keeps.
    pub(in crate::correlate) fn perhaps_store(&mut self, task: TaskKey, idx: SocketIdx, socket: &SocketInfo) {
        let to_etcd = socket.tuple.is_some_and(|tuple| self.state.places.is_etcd_port(tuple.remote.port()));
        if !to_etcd || socket.role == Some(SocketRole::Accepted) {
            return;
        }
        let stores = self.state.stores.entry(task).or_default();
        if stores.contains(&idx) {
            return;
        }
        if stores.len() < self.state.caps.stores {
            stores.push(idx);
        } else {
            self.state.refused.add("stores-full", 1);
        }
    }
}

impl State {
    /// Forgets connections that are closed, and those of processes that are gone.
    pub(in crate::correlate) fn forget_stores(&mut self) {
        let (processes, sockets) = (&self.processes, &self.sockets);
        self.stores.retain(|task, stores| {
            stores.retain(|idx| sockets.get(*idx).is_some_and(|socket| socket.closed.is_none()));
            processes.get(*task).is_some() && !stores.is_empty()
        });
    }
}
