//! Header of a recording, and the limits shared by writer and reader.

use serde::{Deserialize, Serialize};

use crate::model::{Ability, ClockAnchor, Degraded, HostFacts, Pairing};

/// Version of the format. Grows when an old reader would misunderstand a new recording.
pub const FORMAT: u32 = 4;

/// First format with initial sequence numbers of sockets. Recordings of earlier formats keep their own rule: addresses
/// pair the ends of connections.
const WITH_SEQUENCE_NUMBERS: u32 = 4;

/// Longest line in bytes, including its end. The largest observation is an exec with arguments: the kernel's record
/// limits it to some tens of KiB, and a JSON escape takes at most six bytes for one.
pub const MAX_LINE: usize = 1 << 20;

/// First four bytes of a zstd frame (RFC 8878, 3.1.1).
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// First line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the writing program.
    pub execpath: String,
    /// [`FORMAT`] of the writing program.
    pub format: u32,
    /// Relation of boot time to UTC.
    #[serde(rename = "boot_to_utc_ns")]
    pub anchor: ClockAnchor,
    /// Recorded host.
    pub host: HostFacts,
    /// Further hosts of a merged recording, numbered from 1; `host` has number 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<HostFacts>,
    /// Command line of the writing program.
    #[serde(default)]
    pub command: String,
    /// Abilities of the tracer on that host.
    #[serde(default)]
    pub abilities: Vec<Ability>,
    /// Missing abilities of the tracer.
    #[serde(default)]
    pub degraded: Vec<Degraded>,
    /// Options that influence the results.
    #[serde(default)]
    pub options: Settings,
    /// Position in a recording of several parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// Position of a part. All other fields of the header are equal in all parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Number of the part, from 1.
    pub number: u64,
    /// Number of observations at its beginning that repeat observations of earlier parts.
    pub told_again: u64,
}

/// Options that influence the results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `--apiserver-port`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apiserver_port: Option<u16>,
    /// `--kubelet-port`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_port: Option<u16>,
    /// `--runtime-socket`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_socket: Option<String>,
    /// `--netns`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Set if arguments were dropped or redacted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

impl Header {
    /// Header for a new recording of this program.
    #[must_use]
    pub fn new(anchor: ClockAnchor, host: HostFacts) -> Self {
        Self {
            execpath: env!("CARGO_PKG_VERSION").to_owned(),
            format: FORMAT,
            anchor,
            host,
            others: Vec::new(),
            command: String::new(),
            abilities: Vec::new(),
            degraded: Vec::new(),
            options: Settings::default(),
            part: None,
        }
    }

    /// Rule for pairing the ends of connections in this recording.
    #[must_use]
    pub const fn pairing(&self) -> Pairing {
        if self.format < WITH_SEQUENCE_NUMBERS { Pairing::Addresses } else { Pairing::SequenceNumbers }
    }
}
