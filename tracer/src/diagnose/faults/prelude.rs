//! Imports of every fault's file.

pub(super) use crate::{
    diagnose::{
        APART,
        case::{Case, End, Leg, Side, both, retransmits, twice},
        fault::{Advice, Apart, Fault, Found, Made, Rule, Step, number, word},
        host::{Held, Host},
        queues,
    },
    model::{
        About, Endpoints, ExitReason, ExitStatus, FileKind, GapCode, Kind, ProcessMeasure, Program, RawText, Role,
        Series, Severity, SocketRole, Span, TaskKey, TcpInfo, TcpMeasure, TcpState, TimerKind,
    },
};
