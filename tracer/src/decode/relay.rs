//! Records of joins inside a process.

use tracer_common::{Fifo, FifoRelayed, HOW_SPLICE, Relayed, Touched};

use super::{
    common::{DecodeError, actor},
    sock,
};
use crate::model::{Fact, FileId};

pub(super) fn relayed(record: &Relayed) -> Result<Fact, DecodeError> {
    Ok(Fact::Relayed {
        actor: actor(&record.actor),
        from: sock::info(&record.from)?,
        to: sock::info(&record.to)?,
        // The object reports a pair once. Recordings keep the field.
        sightings: 1,
        splice: record.how & HOW_SPLICE != 0,
    })
}

pub(super) fn fifo(record: &Fifo) -> Result<Fact, DecodeError> {
    let from = (record.inbound.cookie != 0).then(|| sock::info(&record.inbound)).transpose()?;
    Ok(Fact::FifoMade {
        actor: actor(&record.actor),
        inbound: from.map(|from| from.id),
        from,
        path: record.path.as_bytes().into(),
    })
}

pub(super) fn touched(record: &Touched) -> Result<Fact, DecodeError> {
    Ok(Fact::Touched { actor: actor(&record.actor), socket: sock::info(&record.socket)? })
}

pub(super) fn fifo_relayed(record: &FifoRelayed) -> Result<Fact, DecodeError> {
    Ok(Fact::FifoRelayed {
        actor: actor(&record.actor),
        fifo: FileId::new(record.fifo_device, record.fifo_inode),
        to: sock::info(&record.to)?,
    })
}
