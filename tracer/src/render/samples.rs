//! Numbers of connections over time, where the recording has them.

use std::collections::BTreeMap;

use crate::model::{BootTime, Fact, Observation, SocketId, TcpInfo};

/// One end of a connection at one moment. Bytes, as `ss` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: BootTime,
    /// Received and not read.
    pub recv_q: u32,
    /// Written and not acknowledged.
    pub send_q: u32,
    /// Sent and acknowledged in all, and received in all; `None` of unix connections, and in states that have no counters.
    pub moved: Option<(u64, u64)>,
    /// Smoothed round trip time in microseconds.
    pub rtt_us: Option<u64>,
}

/// Samples that are kept: some 50 MB. Of a longer recording the later ones are left out, and counted.
const MAX: usize = 1_000_000;

/// Samples by the inode number of the socket, in order of time.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    of: BTreeMap<u64, Vec<Sample>>,
    count: usize,
    /// How many did not fit.
    pub left_out: u64,
}

impl Samples {
    /// Takes in what was measured of a connection; everything else passes by.
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

    /// Those of a socket from `from` to `until`: an inode number may be another socket's before and after.
    pub fn of(&self, socket: Option<SocketId>, from: BootTime, until: BootTime) -> impl Iterator<Item = &Sample> {
        let all = socket.and_then(|socket| self.of.get(&socket.inode?)).map_or(&[][..], Vec::as_slice);
        all.iter().filter(move |sample| (from..=until).contains(&sample.at))
    }
}
