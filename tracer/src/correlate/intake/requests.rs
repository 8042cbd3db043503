//! Requests that an API server answers from etcd: `kubectl get`, `kubectl create` and the like.

use crate::correlate::state::{State, sockets::SocketIdx};
use crate::model::{SocketInfo, SocketRole, TaskKey};

/// Notes a connection to etcd, where an API server keeps its objects.
pub(in crate::correlate) fn note_store(state: &mut State, task: TaskKey, idx: SocketIdx, socket: &SocketInfo) {
    let to_etcd = socket.tuple.is_some_and(|tuple| state.endpoints.is_etcd_port(tuple.remote.port()));
    if !to_etcd || socket.role == Some(SocketRole::Accepted) {
        return;
    }
    let stores = state.stores.entry(task).or_default();
    if stores.contains(&idx) {
        return;
    }
    if stores.len() < state.caps.stores {
        stores.push(idx);
    } else {
        state.refused.add("stores-full", 1);
    }
}
