//! Imports of every fault's file.

pub(super) use crate::{
    diagnose::{
        ctx::SessionCtx,
        fault::{Apart, Fault, Made, Rule},
        finding::{Advice, RuleMatch, Step, number, word},
        host::{Held, Host},
        kinds::Kinds,
        legs::{End, Leg, Side, retransmits, unread_at},
        queues,
        samples::{APART, both, twice},
    },
    model::{
        About, CERTIFICATE, Endpoints, ExitReason, ExitStatus, FileKind, GapCode, Kind, ProcessMeasure, Program,
        RawText, Role, Rung, RungSeen, RungState, Series, Severity, SocketRole, Span, TaskKey, TcpInfo, TcpMeasure,
        TcpState, TimerKind, errno_name, handshake_given_up,
    },
};
