//! Bytes of the ring buffer → observations. Total: any bytes give an observation or an error, never a panic.

mod common;
mod process;
mod relay;
mod sock;

use tracer_common::{ABI, Header, Kind};

pub use self::common::DecodeError;
use self::common::read;
use crate::model::{BootTime, Fact, Observation, Source, TaskKey};

/// Decodes one record.
///
/// # Errors
/// The bytes are not a record of this version.
pub fn decode(bytes: &[u8]) -> Result<Observation, DecodeError> {
    let header: Header = read(bytes)?;
    if header.abi != ABI {
        return Err(DecodeError::Abi(header.abi));
    }
    let fact = match Kind::from_number(header.kind).ok_or(DecodeError::Kind(header.kind))? {
        Kind::Fork => process::fork(&read(bytes)?),
        Kind::Exec => Fact::Exec(Box::new(process::info(&read(bytes)?))),
        Kind::Enrolled => Fact::Enrolled(Box::new(process::info(&read(bytes)?))),
        Kind::Exit => process::exit(&read(bytes)?),
        Kind::ExecFailed => process::exec_failed(&read(bytes)?),
        Kind::Signalled => process::signalled(&read(bytes)?),
        Kind::Connected => sock::connected(&read(bytes)?)?,
        Kind::Accepted => sock::accepted(&read(bytes)?)?,
        Kind::Listening => sock::listening(&read(bytes)?)?,
        Kind::Closed => sock::closed(&read(bytes)?),
        Kind::Dialling => sock::dialled(&read(bytes)?, false)?,
        Kind::DialFailed => sock::dialled(&read(bytes)?, true)?,
        Kind::UnixConnected => sock::unix_connected(&read(bytes)?),
        Kind::UnixAccepted => sock::unix_accepted(&read(bytes)?),
        Kind::Relayed => relay::relayed(&read(bytes)?)?,
        Kind::Fifo => relay::fifo(&read(bytes)?)?,
        Kind::Touched => relay::touched(&read(bytes)?)?,
        Kind::FifoRelayed => relay::fifo_relayed(&read(bytes)?)?,
    };
    Ok(Observation {
        at: BootTime(header.at_ns),
        source: Source::Ebpf,
        seq: Some((header.cpu, header.seq)),
        task: Some(TaskKey::from_ns(header.tgid, header.start_ns)),
        tid: (header.tid != 0).then_some(header.tid),
        fact,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_records_are_errors_not_panics() {
        assert_eq!(decode(&[]), Err(DecodeError::Short { want: size_of::<Header>(), have: 0 }));
        let mut bytes = vec![0_u8; 2048];
        assert_eq!(decode(&bytes), Err(DecodeError::Abi(0)));
        bytes[2..4].copy_from_slice(&ABI.to_ne_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Kind(0)));
        for kind in Kind::ALL {
            bytes[..2].copy_from_slice(&(kind as u16).to_ne_bytes());
            assert!(matches!(decode(&bytes[..41]), Err(DecodeError::Short { .. })), "{kind:?}");
            for fill in [0_u8, 0xff, 0x41] {
                bytes[4..].fill(fill);
                let _whatever = decode(&bytes);
            }
        }
    }
}
