//! State, timers and counters of a TCP socket, as the kernel reports them.

use serde::{Deserialize, Serialize};

/// State of a TCP socket (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum TcpState {
    /// Both sides send and receive.
    Established,
    /// SYN sent, no answer yet.
    SynSent,
    /// SYN received, the last step of the handshake is missing.
    SynRecv,
    /// This end closed; its FIN is not acknowledged.
    #[serde(rename = "FIN-WAIT-1")]
    FinWait1,
    /// This end closed, the other end did not.
    #[serde(rename = "FIN-WAIT-2")]
    FinWait2,
    /// Both closed; the socket waits for late segments.
    TimeWait,
    /// No connection any more. The process may still hold the descriptor.
    Close,
    /// The other end closed, this end did not.
    CloseWait,
    /// Both closed; this end's FIN is not acknowledged.
    LastAck,
    /// The socket waits for connections.
    Listen,
    /// Both closed at the same time.
    Closing,
}

impl TcpState {
    /// State of a kernel state number; `None` for an unknown number.
    #[must_use]
    pub const fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            // 12 is TCP_NEW_SYN_RECV: a connection request without a full socket yet.
            3 | 12 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }

    /// Stable token: the names of RFC 9293.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN-SENT",
            Self::SynRecv => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// Kind of a running TCP timer (net/ipv4/inet_diag.c: `inet_diag_msg_attrs_fill`, `idiag_timer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimerKind {
    /// Unacknowledged data will be sent again.
    Retransmit,
    /// The connection has been silent for long; the kernel will probe the other end.
    KeepAlive,
    /// TIME-WAIT will end.
    TimeWait,
    /// The other end's window is closed; the kernel will probe it (persist timer).
    Probe,
}

impl TimerKind {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Retransmit => "retransmit",
            Self::KeepAlive => "keepalive",
            Self::TimeWait => "time-wait",
            Self::Probe => "probe",
        }
    }
}

/// A running timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Kind of the timer.
    pub kind: TimerKind,
    /// Milliseconds until the timer fires.
    pub expires_ms: u64,
    /// Number of times the timer has fired in vain.
    pub retries: u8,
}

/// Counters of a connection (include/uapi/linux/tcp.h: `struct tcp_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Smoothed round trip time in microseconds.
    pub rtt_us: u64,
    /// Retransmission timeout in microseconds.
    pub rto_us: u64,
    /// Number of times the timeout was doubled.
    pub backoff: u8,
    /// Retransmissions of the oldest unacknowledged segment.
    pub retransmits: u8,
    /// Unanswered window probes.
    pub probes: u8,
    /// Total of retransmissions.
    pub total_retransmits: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Segments considered lost.
    pub lost: u32,
    /// Bytes accepted from the process and not sent yet.
    pub not_sent: u32,
    /// Bytes that the other end allows in flight; `None` before Linux 5.4, which does not report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_window: Option<u32>,
    /// Largest segment size for sending, in bytes.
    pub send_mss: u32,
    /// Path MTU in bytes.
    pub path_mtu: u32,
    /// Milliseconds since data was last sent.
    pub last_sent_ms: u32,
    /// Milliseconds since data was last received.
    pub last_received_ms: u32,
    /// Milliseconds since an acknowledgement was last received.
    pub last_ack_ms: u32,
    /// Bytes sent and acknowledged.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Data segments sent, retransmissions included.
    pub data_segments_out: u32,
    /// Data segments received.
    pub data_segments_in: u32,
}
