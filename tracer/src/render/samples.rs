//! Measurements of connections over time, if the recording contains them.

use std::collections::BTreeMap;

use crate::model::{BootTime, Fact, Observation, SocketId, TcpInfo};

/// One end of a connection at one moment. Sizes are bytes, as in `ss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Time of the measurement.
    pub at: BootTime,
    /// Bytes received and not yet read.
    pub recv_q: u32,
    /// Bytes written and not yet acknowledged.
    pub send_q: u32,
    /// Total bytes acknowledged and received. `None` for unix connections, and in TCP states without counters.
    pub moved: Option<(u64, u64)>,
    /// Smoothed round trip time in microseconds.
    pub rtt_us: Option<u64>,
}

/// Most samples kept, about 50 MB. Later ones are counted and dropped.
const MAX: usize = 1_000_000;

/// Samples by inode number of the socket, in order of time.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    of: BTreeMap<u64, Vec<Sample>>,
    count: usize,
    /// Number of samples dropped.
    pub left_out: u64,
}

impl Samples {
    /// Adds the sample of a measurement; ignores every other fact.
    pub fn take(&mut self, seen: &Observation) {
        let at = seen.at;
        let sample = |recv_q, send_q, info: Option<TcpInfo>| Sample {
            at,
            recv_q,
            send_q,
            moved: info.map(|info| (info.bytes_acked, info.bytes_received)),
            rtt_us: info.map(|info| info.rtt_us),
        };
        let (socket, sample) = if let Fact::TcpMeasured { socket, measure, .. } = &seen.fact {
            (socket, sample(measure.recv_q, measure.send_q, measure.info))
        } else if let Fact::UnixMeasured { socket, measure, .. } = &seen.fact {
            (socket, sample(measure.recv_q, measure.send_q, None))
        } else {
            return;
        };
        let Some(inode) = socket.inode else { return };
        if self.count >= MAX {
            self.left_out += 1;
            return;
        }
        self.count += 1;
        self.of.entry(inode).or_default().push(sample);
    }

    /// Samples of a socket from `from` to `until`. Outside of this span, its inode number may belong to another socket.
    pub fn of(&self, socket: Option<SocketId>, from: BootTime, until: BootTime) -> impl Iterator<Item = &Sample> {
        let all = socket.and_then(|socket| self.of.get(&socket.inode?)).map_or(&[][..], Vec::as_slice);
        all.iter().filter(move |sample| (from..=until).contains(&sample.at))
    }
}
