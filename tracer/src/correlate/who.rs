//! Who is behind a session.

use std::net::SocketAddr;

use super::chain::Builder;
use crate::model::{Client, Hop, Want};

impl Builder<'_> {
    /// The client: what its own host knows of it, or else its address alone.
    pub(super) fn client(&mut self, hop: Option<&Hop>, address: Option<SocketAddr>) -> Client {
        let Some(Hop { task, process, .. }) = hop else { return Client { address, ..Client::default() } };
        let ancestry = self.world.processes.get(*task).and_then(|process| process.ancestry.as_ref());
        if ancestry.is_none() {
            self.wants.push(Want::Ancestry(*task));
        }
        let name = |uid: Option<u32>| ancestry?.names.get(&uid?).cloned();
        Client {
            address,
            uid: process.uid,
            uid_name: name(process.uid),
            login_uid: process.login_uid,
            login_name: name(process.login_uid),
            tty: process.tty.clone(),
            parents: ancestry.map(|ancestry| ancestry.parents.clone()),
        }
    }
}
