//! Records of joins inside a process.

use tracer_common::{Fifo, HOW_SPLICE, Relayed};

use super::{DecodeError, sock};
use crate::model::{Actor, Fact};

pub(super) fn actor(record: &tracer_common::Actor) -> Actor {
    let some = |word: u64| (word != 0).then_some(word);
    Actor { g: some(record.g), goid: some(record.goid), parent_goid: some(record.parent_goid) }
}

pub(super) fn relayed(record: &Relayed) -> Result<Fact, DecodeError> {
    Ok(Fact::Relayed {
        actor: actor(&record.actor),
        from: sock::info(&record.from)?,
        to: sock::info(&record.to)?,
        sightings: record.sightings,
        splice: record.how & HOW_SPLICE != 0,
    })
}

pub(super) fn fifo(record: &Fifo) -> Fact {
    Fact::FifoMade {
        actor: actor(&record.actor),
        inbound: sock::named(record.inbound_cookie, record.inbound_inode),
        path: record.path.as_bytes().into(),
    }
}
