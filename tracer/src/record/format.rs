//! The first line, and the bounds that writer and reader agree on.

use serde::{Deserialize, Serialize};

use crate::model::{Ability, ClockAnchor, Degraded, HostFacts, Pairing};

/// Number of the format: grows when an old reader would misunderstand a new recording.
pub const FORMAT: u32 = 4;

/// First format whose sockets have initial sequence numbers. Recordings of earlier formats keep the rule by which they were
/// made: ends of connections are paired by addresses.
const WITH_SEQUENCE_NUMBERS: u32 = 4;

/// Longest line, with its end. The largest observation is an exec with its arguments, bounded by the kernel's record to some
/// tens of KiB; JSON escapes make six bytes of one at most.
pub const MAX_LINE: usize = 1 << 20;

/// First four bytes of a zstd frame (RFC 8878, 3.1.1).
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the program that wrote it.
    pub execpath: String,
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// Ties boot time to UTC.
    #[serde(rename = "boot_to_utc_ns")]
    pub anchor: ClockAnchor,
    /// The host.
    pub host: HostFacts,
    /// Further hosts, where it was merged out of several recordings: numbered from 1, while `host` is 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<HostFacts>,
    /// The command line that made it.
    #[serde(default)]
    pub command: String,
    /// What the tracer could do.
    #[serde(default)]
    pub abilities: Vec<Ability>,
    /// What it could not.
    #[serde(default)]
    pub degraded: Vec<Degraded>,
    /// What was asked for that changes what is found.
    #[serde(default)]
    pub options: Settings,
    /// Which part of a recording in parts this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// A part of a recording. Parts have the same header but for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number.
    pub number: u64,
    /// How many observations at its beginning stand in earlier parts, too.
    pub told_again: u64,
}

/// What was asked for that changes what is found.
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
    /// Whether arguments were left out or redacted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

impl Header {
    /// The header of a recording that this program writes.
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

    /// How the ends of connections are paired in a recording of this format.
    #[must_use]
    pub const fn pairing(&self) -> Pairing {
        if self.format < WITH_SEQUENCE_NUMBERS { Pairing::Addresses } else { Pairing::SequenceNumbers }
    }
}
