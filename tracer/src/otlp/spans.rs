//! A closed session as a trace: a span for the session, for each hop, and for each link.
//!
//! A parent is a proved containment: the session contains its hops, and a hop begins its links. Where a path leaves this host, the span of
//! the session has a span link instead: nobody here knows the other host's spans.

use opentelemetry_proto::tonic::trace::v1::{
    Span, Status,
    span::{Event, Link as SpanLink, SpanKind},
    status::StatusCode,
};

use super::{
    attributes::{self as name, Attributes, bounded},
    ids::{Of, TraceIds},
};
use crate::{
    model::{BootTime, ExitReason, ExitStatus, Hop, Link, LinkKind, RawText, Rung, RungState, Session, errno_name},
    sink::Header,
};

/// Most hops and links of a session that are exported.
const MOST: usize = 64;

/// Spans of a session, its own first. `now` ends a session that is still open.
#[must_use]
pub fn spans(session: &Session, header: &Header, now: BootTime) -> Vec<Span> {
    let ids = TraceIds::of_session(&header.host.boot_id, &session.id);
    let ctx = Ctx { session, header, ids, end: session.closed_at.unwrap_or(now) };
    let hops = session.hops.iter().enumerate().take(MOST).map(|(index, hop)| ctx.hop(index, hop));
    let links = session.links.iter().enumerate().take(MOST).map(|(index, link)| ctx.link(index, link));
    std::iter::once(ctx.root()).chain(hops).chain(links).collect()
}

struct Ctx<'a> {
    session: &'a Session,
    header: &'a Header,
    ids: TraceIds,
    end: BootTime,
}

/// Attributes of a session, of its span and of its log records.
pub(super) fn of_session(session: &Session) -> Attributes {
    let target = &session.target;
    let exit = session.exit;
    let client = session.client.address;
    let attempt = session.attempt.as_deref();
    let failed = attempt.and_then(|attempt| attempt.failed());
    let start_failed = exit.filter(|exit| exit.reason == ExitReason::StartFailed).map(|exit| exit.reason.token());
    Attributes::default()
        .text(name::SESSION, Some(&session.id.0))
        .text(name::KIND, Some(session.kind.token()))
        .text(name::NAMESPACE, target.namespace.as_deref())
        .text(name::POD, target.pod.as_deref())
        .text(name::POD_UID, target.pod_uid.as_deref())
        .text(name::CONTAINER, target.container.as_deref())
        .text(name::CONTAINER_ID, target.container_id.as_deref())
        .text(name::RUNTIME, target.runtime.as_deref())
        .text(name::CLIENT_ADDRESS, client.map(|client| client.ip().to_string()).as_deref())
        .number(name::CLIENT_PORT, client.map(|client| client.port()))
        .text(name::USER, session.client.user.as_ref().map(|user| user.user.name.as_str()))
        .list(name::ARGS, session.command.iter().map(RawText::to_text))
        .flag(name::TTY, session.tty)
        .flag(name::STDIN, session.stdin)
        .text(name::EXEC_ID, session.exec_id.as_deref())
        .flag(name::PREEXISTING, Some(session.preexisting))
        .flag(name::COMPLETE, Some(session.complete))
        .text(name::CONFIDENCE, session.confidence().map(crate::model::Confidence::token))
        .text(name::REASON, exit.map(|exit| exit.reason.token()))
        .number(name::EXIT_CODE, exit.and_then(|exit| exit.code))
        .number(name::SIGNAL, exit.and_then(|exit| exit.signal))
        .text(name::REACHED, attempt.and_then(|attempt| attempt.reached()).map(|seen| seen.rung.token()))
        .text(name::FAILED_AT, failed.map(|seen| seen.rung.token()))
        .text(name::ERROR, failed.and_then(|seen| errno_name(seen.errno?)).or(start_failed))
}

impl Ctx<'_> {
    fn at(&self, at: BootTime) -> u64 {
        self.header.anchor.utc_ns(at)
    }

    fn span(&self, of: Of, parent: Option<Of>, name: &str, kind: SpanKind, from: BootTime, to: BootTime) -> Span {
        Span {
            trace_id: self.ids.trace(),
            span_id: self.ids.span(of),
            parent_span_id: parent.map(|parent| self.ids.span(parent)).unwrap_or_default(),
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: self.at(from),
            end_time_unix_nano: self.at(to.max(from)),
            ..Span::default()
        }
    }

    fn root(&self) -> Span {
        let session = self.session;
        let failed = session.attempt.as_deref().is_some_and(|attempt| attempt.failed().is_some());
        let is_error = failed || session.exit.is_some_and(|exit| exit.reason == ExitReason::StartFailed);
        let status = is_error
            .then(|| Status { code: StatusCode::Error.into(), message: "the command was not started".to_owned() });
        let gaps = session.gaps.iter().take(MOST).map(|gap| Event {
            time_unix_nano: self.at(self.end),
            name: "execpath.gap".to_owned(),
            attributes: Attributes::default()
                .text(name::GAP, Some(gap.code.token()))
                .text(name::GAP_TEXT, Some(&bounded(&gap.text)))
                .done(),
            ..Event::default()
        });
        Span {
            attributes: of_session(session).done(),
            events: gaps.collect(),
            links: self.beyond(),
            status,
            ..self.span(Of::Session, None, session.kind.token(), SpanKind::Internal, session.opened_at, self.end)
        }
    }

    /// Links to the spans of others: of the session that this one is a part of, and of other hosts.
    fn beyond(&self) -> Vec<SpanLink> {
        let merged = self.session.merged_into.as_ref().map(|id| {
            let ids = TraceIds::of_session(&self.header.host.boot_id, id);
            to(&ids, Of::Session, Attributes::default().text(name::RELATION, Some("merged-into")))
        });
        // Only the address of the client's end is known to every host on its connection.
        let client = self.session.client.address.map(TraceIds::of_client);
        let outside = self.session.beyond.iter().take(MOST).filter_map(|(side, address)| {
            let attributes = Attributes::default()
                .text(name::RELATION, Some("client-connection"))
                .text(name::SIDE, Some(side))
                .text(name::PEER_ADDRESS, Some(&address.ip().to_string()))
                .number(name::PEER_PORT, Some(address.port()));
            Some(to(client.as_ref()?, Of::Session, attributes))
        });
        merged.into_iter().chain(outside).collect()
    }

    /// Time of a stage of the start.
    fn stage(&self, rung: Rung) -> Option<BootTime> {
        let seen = self.session.attempt.as_ref()?.rung(rung)?;
        seen.at.filter(|_| seen.state == RungState::Reached)
    }

    fn hop(&self, index: usize, hop: &Hop) -> Span {
        let is_last = index + 1 == self.session.hops.len();
        // A daemon is older than the session.
        let from = BootTime(hop.task.start_ns()).max(self.session.opened_at).min(self.end);
        let to = if is_last { self.stage(Rung::Ended).unwrap_or(self.end) } else { self.end };
        let process = &hop.process;
        let code = match hop.exit {
            Some(ExitStatus::Code(code)) => Some(code),
            Some(ExitStatus::Signal(_)) | None => None,
        };
        let attributes = Attributes::default()
            .text(name::ROLE, Some(hop.role.token()))
            .number(name::HOP, Some(index))
            .number(name::PID, Some(hop.task.tgid))
            .text(name::EXECUTABLE, Some(&process.comm.to_text()))
            .text(name::EXECUTABLE_PATH, process.exe.as_ref().map(RawText::to_text).as_deref())
            .list(name::ARGS, process.argv.iter().map(RawText::to_text))
            .number(name::PROCESS_UID, process.uid)
            .number(name::EXIT_CODE, code)
            .text(name::HOST_NAME, self.header.distinct(hop.task.host));
        Span {
            attributes: attributes.done(),
            ..self.span(Of::Hop(index), Some(Of::Session), hop.role.token(), SpanKind::Internal, from, to)
        }
    }

    fn link(&self, index: usize, link: &Link) -> Span {
        let tcp = link.tcp;
        let from = tcp.and_then(|tcp| tcp.begun).unwrap_or(self.session.opened_at).max(self.session.opened_at);
        let transport = match link.kind {
            LinkKind::Tcp => Some("tcp"),
            LinkKind::Unix => Some("unix"),
            LinkKind::Relay | LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec => None,
        };
        let ends = tcp.map(|tcp| (tcp.tuple.local, tcp.tuple.remote));
        let path = link.unix.as_ref().map(|(path, _, _)| path.to_text());
        let peer = ends.map(|(_, remote)| remote.ip().to_string()).or(path.map(Into::into));
        let attributes = Attributes::default()
            .text(name::LINK_KIND, Some(link.kind.token()))
            .number(name::FROM, Some(link.from))
            .number(name::TO, Some(link.to))
            .text(name::CONFIDENCE, Some(link.confidence.token()))
            .list(name::EVIDENCE, link.evidence.iter().map(|evidence| evidence.token()))
            .flag(name::PERSISTENT, Some(link.persistent))
            .text(name::TRANSPORT, transport)
            .text(name::LOCAL_ADDRESS, ends.map(|(local, _)| local.ip().to_string()).as_deref())
            .number(name::LOCAL_PORT, ends.map(|(local, _)| local.port()))
            .text(name::PEER_ADDRESS, peer.as_deref())
            .number(name::PEER_PORT, ends.map(|(_, remote)| remote.port()))
            .number(name::SENT, tcp.and_then(|tcp| tcp.sent))
            .number(name::RECEIVED, tcp.and_then(|tcp| tcp.received));
        let kind = if transport.is_some() { SpanKind::Client } else { SpanKind::Internal };
        let next = Attributes::default().text(name::RELATION, Some("next-hop"));
        Span {
            attributes: attributes.done(),
            links: vec![to(&self.ids, Of::Hop(link.to), next)],
            ..self.span(
                Of::Link(index),
                Some(Of::Hop(link.from)),
                link.kind.token(),
                kind,
                from.min(self.end),
                self.end,
            )
        }
    }
}

/// A span link to a span of that trace.
fn to(ids: &TraceIds, of: Of, attributes: Attributes) -> SpanLink {
    SpanLink { trace_id: ids.trace(), span_id: ids.span(of), attributes: attributes.done(), ..SpanLink::default() }
}
