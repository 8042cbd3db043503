//! One session in full: the path, the measurements of both ends of each connection, and the bytes waiting in buffers.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{
    Header, Sink, Style, Target,
    color::Color,
    path::{LABEL, PathText, Piece},
    phrases::{self, gap_words, lasted},
    view,
};
use crate::{
    escape,
    model::{
        BootTime, Descriptor, ExecFifo, FileKind, Health, Hop, Link, LinkKind, Measures, ProcessMeasure, RawText,
        Report, Role, Session, SocketId, Span, TaskKey, TcpMeasure, TcpState, TimerKind, parse_fifo_path,
    },
};

/// Columns of a command.
const COMMAND: usize = 86;
/// Most holders of a file's other end that are listed.
const MAX_HOLDERS: usize = 8;

/// The sink.
pub struct Show {
    target: Target,
    style: Style,
    header: Header,
}

impl Show {
    /// Draws to `target`.
    #[must_use]
    pub fn new(target: Target, style: Style) -> Self {
        Self { target, style, header: Header::default() }
    }
}

impl Sink for Show {
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.header = header.clone();
        Ok(())
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let at = report.now();
        for (index, session) in report.sessions.iter().enumerate() {
            let health = view::health(session, report);
            let doubt = view::doubt(session, report);
            let drawing = Drawing { style: self.style, measures: &report.measures, session, health, doubt, at };
            let blank = if index == 0 { "" } else { "\n" };
            write!(self.target, "{blank}{}", drawing.draw())?;
        }
        self.target.write_all(phrases::degraded(self.style, &self.header.degraded).as_bytes())?;
        self.target.flush()
    }
}

struct Drawing<'a> {
    style: Style,
    measures: &'a Measures,
    session: &'a Session,
    health: Health,
    /// Reason of an unknown health.
    doubt: Option<&'a str>,
    at: BootTime,
}

impl Drawing<'_> {
    fn draw(&self) -> String {
        let session = self.session;
        let paths = PathText { style: self.style, header: Header::default() };
        let mut lines = vec![self.title()];
        lines.extend(
            phrases::command(session, COMMAND).map(|command| format!("  {} {command}", self.paint(Color::Dim, "$"))),
        );
        let head =
            [("who", phrases::who(session)), ("user", phrases::user(session)), ("server", phrases::server(session))];
        for (label, text) in head {
            lines.extend(text.into_iter().flat_map(|text| paths.who(label, &text)));
        }
        lines.push(String::new());
        let more = |piece: Piece<'_>| match piece {
            Piece::Hop(hop) => self.hop(hop),
            Piece::Link(link) => self.link(link),
            Piece::Beyond(..) | Piece::Hole(_) => Vec::new(),
        };
        lines.extend(paths.path_with(session, &more));
        lines.push(String::new());
        if session.complete {
            lines.push(paths.complete(session));
        }
        lines.extend(paths.start(session));
        for gap in &session.gaps {
            lines.extend(paths.wrapped(Color::Doubt, "  ? ", "    ", &gap_words(session, gap)));
        }
        if let Some(stage) = phrases::stage(session) {
            lines.extend(paths.wrapped(Color::Bad, "  ✗ ", "    ", &stage));
        }
        if let Some(doubt) = self.doubt {
            let text = format!("health unknown: {}", escape::str(doubt, phrases::TEXT));
            lines.extend(paths.wrapped(Color::Doubt, "  ? ", "    ", &text));
        }
        lines.join("\n") + "\n"
    }

    fn paint(&self, color: Color, text: &str) -> String {
        color.paint(self.style, text).into_owned()
    }

    fn title(&self) -> String {
        let session = self.session;
        let mut title = format!(
            "{}  {}",
            self.paint(Color::Mark, &escape::str(&session.id.0, phrases::NAME)),
            session.kind.token()
        );
        if let Some(into) = phrases::into(session) {
            title.push_str(&format!("  {}", self.paint(Color::Bold, &into)));
        }
        let age = lasted(view::age(session, self.at));
        let terminal = match session.tty {
            Some(true) => ", with a terminal",
            Some(false) | None => "",
        };
        let idle = view::idle(session, self.measures, self.at);
        let idle = idle.map_or(String::new(), |idle| format!(", idle for {}", lasted(idle)));
        let lasted = if session.closed_at.is_some() { "closed after" } else { "open for" };
        title.push_str(&self.paint(Color::Dim, &format!("  {lasted} {age}{idle}{terminal}")));
        title.push_str(&match self.health {
            Health::Fault { code, short } => self.paint(Color::Bad, &format!("  {code}: {short}")),
            Health::Ok | Health::Waiting => self.paint(Color::Good, &format!("  {}", self.health.short())),
            Health::Unknown => String::new(),
        });
        title
    }

    /// Lines below a hop: its process state, and the files of its standard streams.
    fn hop(&self, hop: &Hop) -> Vec<String> {
        let margin = " ".repeat(2 + LABEL + 1);
        let mut lines = Vec::new();
        if let Some(series) = self.measures.process(hop.task) {
            let (text, bad) = doing(hop, &series.last);
            lines.push(format!("{margin}{}", self.paint(if bad { Color::Bad } else { Color::Dim }, &text)));
        }
        if hop.role == Role::Process {
            let own = self.measures.descriptors(hop.task).iter();
            let of_stdio = own.filter(|one| one.fd <= 2 && one.kind != FileKind::Other);
            lines.extend(of_stdio.map(|one| format!("{margin}{}", self.file(hop.task, one))));
        }
        lines
    }

    /// A file of a process: the bytes waiting in it, and the holders of its other end.
    fn file(&self, task: TaskKey, one: &Descriptor) -> String {
        let name = match one.fd {
            0 => "stdin",
            1 => "stdout",
            _ => "stderr",
        };
        let (waits, color) = self.waits(one);
        let is_other_end = |holder: &Descriptor| match one.kind {
            FileKind::Pty => holder.master != one.master,
            FileKind::Fifo | FileKind::Pipe | FileKind::Socket | FileKind::Other => {
                if one.fd == 0 {
                    holder.access.writes()
                } else {
                    holder.access.reads()
                }
            }
        };
        let mut pids: Vec<u32> = self
            .measures
            .holders(one.kind, one.file)
            .filter(|(holder, descriptor)| *holder != task && is_other_end(descriptor))
            .map(|(holder, _)| holder.tgid)
            .collect();
        pids.dedup();
        let ends: Vec<String> = pids.iter().take(MAX_HOLDERS).map(u32::to_string).collect();
        let ends = match ends.len() {
            0 => "no known process holds the other end".to_owned(),
            1 => format!("other end: pid {}", ends.join("")),
            _ => format!("other end: pids {}{}", ends.join(", "), if pids.len() > MAX_HOLDERS { ", …" } else { "" }),
        };
        let kind = if one.master { "ptmx" } else { one.kind.token() };
        let text = format!("{name:<6} {kind}:[{}]  {waits}  {ends}", one.file.inode);
        self.paint(color, &text)
    }

    /// Bytes waiting in a file, and the colour of this number.
    fn waits(&self, one: &Descriptor) -> (String, Color) {
        let Some(file) = self.measures.file(one.kind, one.file).map(|series| series.last) else {
            return ("queued bytes not known".to_owned(), Color::Dim);
        };
        match file.capacity {
            Some(capacity) => {
                let color = if file.queued >= capacity { Color::Bad } else { Color::Dim };
                (format!("{} of {capacity} bytes queued", file.queued), color)
            }
            None => (format!("{} bytes queued at its master", file.queued), Color::Dim),
        }
    }

    /// Lines below a link: the measurements of both ends.
    fn link(&self, link: &Link) -> Vec<String> {
        let rail = format!("{}{}", self.paint(Color::Dim, "  │ "), " ".repeat(6));
        if let Some(ends) = link.tcp {
            let near = ends.near.map(|near| self.tcp_end("near", near));
            let far = ends.far.map(|far| self.tcp_end("far ", far));
            return near.into_iter().chain(far).flatten().map(|line| format!("{rail}{line}")).collect();
        }
        if let Some((_, near, far)) = &link.unix {
            let end = |side: &str, socket: SocketId| {
                let series = self.measures.unix(socket)?;
                let text = format!("{side}  recv-q {}  send-q {}", series.last.recv_q, series.last.send_q);
                Some(self.paint(if series.last.recv_q > 0 { Color::Doubt } else { Color::Dim }, &text))
            };
            let ends = [end("near", *near), end("far ", *far)];
            return ends.into_iter().flatten().map(|line| format!("{rail}{line}")).collect();
        }
        if link.kind == LinkKind::Fifo {
            return self.fifos(link).into_iter().map(|line| format!("{rail}{line}")).collect();
        }
        Vec::new()
    }

    /// The FIFOs of the exec: bytes waiting in them, and processes that have them open.
    fn fifos(&self, link: &Link) -> Vec<String> {
        let (Some(exec), Some(shim)) = (&self.session.exec_id, self.session.hops.get(link.to)) else {
            return Vec::new();
        };
        let mut seen = BTreeSet::new();
        let mut lines = Vec::new();
        for one in self.measures.descriptors(shim.task).iter().filter(|one| one.kind == FileKind::Fifo) {
            let name = one.path.as_ref().and_then(RawText::as_str).and_then(parse_fifo_path);
            let is_its = |name: &ExecFifo| {
                *name.exec == **exec && self.session.target.container_id.as_ref() == Some(&name.container)
            };
            let Some(name) = name.filter(is_its) else { continue };
            if !seen.insert(one.file) {
                continue;
            }
            let (waits, color) = self.waits(one);
            let mut pids: Vec<u32> = self.measures.holders(one.kind, one.file).map(|(task, _)| task.tgid).collect();
            pids.dedup();
            let pids: Vec<String> = pids.iter().take(MAX_HOLDERS).map(u32::to_string).collect();
            let text = format!("{:<6}  {waits}  open in pid {}", name.stream, pids.join(", "));
            lines.push(self.paint(color, &text));
        }
        lines
    }

    fn tcp_end(&self, side: &str, socket: SocketId) -> Vec<String> {
        let Some(series) = self.measures.tcp(socket) else {
            let text =
                if self.measures.gone(socket).is_some() { "no longer known to the kernel" } else { "not measured" };
            return vec![self.paint(Color::Doubt, &format!("{side}  {text}"))];
        };
        let end = series.last;
        let clogged = end.recv_q > 0 || end.send_q > 0;
        let color = if end.state == TcpState::Established && !clogged { Color::Dim } else { Color::Bad };
        let troubles = troubles(&end).join(", ");
        let more =
            Some(troubles).filter(|text| !text.is_empty()).map(|text| format!("{}  {text}", " ".repeat(side.len())));
        let lines = [format!("{side}  {}", numbers(&end))].into_iter().chain(more);
        lines.map(|line| self.paint(color, &line)).collect()
    }
}

/// Measurements of one end on a line.
pub(crate) fn numbers(end: &TcpMeasure) -> String {
    let mut text = format!("{}  recv-q {}  send-q {}", end.state.token(), end.recv_q, end.send_q);
    if let Some(info) = end.info {
        let ago = |millis: u32| lasted(Span::from_millis(millis.into()));
        text.push_str(&format!("  sent {} ago  received {} ago", ago(info.last_sent_ms), ago(info.last_received_ms)));
        text.push_str(&format!("  rtt {}.{:03} ms", info.rtt_us / 1_000, info.rtt_us % 1_000));
    }
    text
}

/// Unusual conditions of one end.
pub(crate) fn troubles(end: &TcpMeasure) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(info) = end.info {
        let counted = |count: u64, what: &str| phrases::counted(count, what);
        if info.unacked > 0 {
            troubles.push(format!("{} unacknowledged", counted(info.unacked.into(), "segment")));
        }
        if info.not_sent > 0 {
            troubles.push(format!("{} not sent", counted(info.not_sent.into(), "byte")));
        }
        if info.send_window == Some(0) {
            troubles.push("the other end's window is zero".to_owned());
        }
        if info.backoff > 0 {
            troubles.push(format!("time-out doubled {}", counted(info.backoff.into(), "time")));
        }
    }
    if let Some(timer) = end.timer.filter(|timer| timer.kind != TimerKind::KeepAlive) {
        troubles.push(format!("{} in {}", timer.kind.token(), lasted(Span::from_millis(timer.expires_ms))));
    }
    troubles
}

/// Activity of a process, and true if this state is a problem by itself.
pub(crate) fn doing(hop: &Hop, process: &ProcessMeasure) -> (String, bool) {
    let (state, bad) = match process.state {
        'R' => ("runs", false),
        'S' | 'I' => ("sleeps", false),
        'D' => ("is in uninterruptible sleep", true),
        'T' => ("is stopped", true),
        't' => ("is stopped by a debugger", true),
        'Z' => ("is a zombie: its parent has not reaped it", true),
        'X' => ("is gone", true),
        _ => ("is in an unknown state", false),
    };
    let mut text = format!("{state} ({})", process.state);
    // A daemon's threads serve many sessions: their system calls explain none of them.
    if matches!(hop.role, Role::Client | Role::Runc | Role::Process)
        && let Some(call) = process.threads.first().and_then(|thread| thread.call.as_ref())
    {
        let fd = call.fd.map_or(String::new(), |fd| fd.to_string());
        text.push_str(&format!(" in {}({fd})", escape::str(&call.name, 32)));
    }
    if let Some(cgroup) = process.cgroup {
        if cgroup.frozen == Some(true) {
            text.push_str(", its cgroup is frozen");
        }
        if let (Some(pids), Some(max)) = (cgroup.pids, cgroup.pids_max) {
            text.push_str(&format!(", {pids} of {max} processes"));
        }
    }
    (text, bad)
}
