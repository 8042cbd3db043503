//! What a kubectl of this host asked for and a kubelet did not come to serve: it hung up, or was hung up on, before it asked a runtime.

use super::{Correlator, asked::kubectl_says, execs::What, sockets::SocketNo};
use crate::model::{BootTime, Kind, TaskKey};

impl Correlator {
    /// That kubectl is over, and nothing showed what it asked for: the last leg to a kubelet that was dialled for it does. An attempt
    /// that was refused before another one was served is no session.
    pub(super) fn perhaps_refused(&mut self, at: BootTime, task: TaskKey) {
        let process = self.world.processes.get(task);
        let asks = process.and_then(|process| kubectl_says(&process.info)).is_some_and(|kind| kind != Kind::Logs);
        if !asks || self.served.contains(&task) || self.asked_for.contains_key(&task) {
            return;
        }
        let Some(leg) = self.refused_leg(task) else { return };
        let Some((cookie, since)) = self.world.sockets.get(leg).and_then(|leg| Some((leg.id.cookie?, leg.since)))
        else {
            return;
        };
        let id = format!("leg-{cookie}");
        if let Some(exec) = self.world.execs.entry(&id, "", since.min(at)) {
            exec.what = What::Leg;
            exec.leaves_by = Some(leg);
            self.dirty.insert(id);
        }
    }

    fn refused_leg(&self, task: TaskKey) -> Option<SocketNo> {
        let sockets = &self.world.sockets;
        let peer = |no: SocketNo| sockets.get(no)?.peer;
        let calls = self.world.calls.get(&task)?.iter().copied();
        let dialled = calls.filter_map(peer).flat_map(|inbound| self.world.joins.dialled_for(inbound));
        let led_nowhere = |leg: &SocketNo| {
            let socket = sockets.get(*leg);
            socket.is_some_and(|leg| leg.closed.is_some() && self.world.leads_to_kubelet(leg.tuple))
                && peer(*leg).is_some_and(|accepted| self.world.joins.dialled_for(accepted).next().is_none())
        };
        dialled.filter(led_nowhere).max()
    }
}
