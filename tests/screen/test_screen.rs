//! A screen without a terminal, and sample reports for it.

use std::{fmt, sync::Arc};

use execpath::{
    diagnose::diagnosis,
    model::{
        BootTime, Confidence, Fact, LinkKind, Measures, Observation, ProcessMeasure, Report, Session, SessionId,
        SocketId, Source, Span, State as Life, TcpInfo, TcpMeasure, TcpState, Timer, TimerKind,
    },
    tui::{Clock, Effect, Msg, State, Theme, draw},
};
use execpath_tests::samples;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
    style::{Color, Modifier},
};

/// Times of the two samples.
const TAKEN: [BootTime; 2] = [samples::OPENED.plus(Span::from_secs(60)), samples::OPENED.plus(Span::from_secs(63))];

/// A screen of a given size.
pub(crate) struct TestScreen {
    pub(crate) state: State,
    terminal: Terminal<TestBackend>,
}

impl TestScreen {
    pub(crate) fn new(width: u16, height: u16) -> Self {
        Self::with(width, height, None, Theme { color: false })
    }

    /// A screen over a recording of one minute.
    pub(crate) fn replay(width: u16, height: u16) -> Self {
        let to = samples::OPENED.plus(Span::from_secs(60));
        Self::with(width, height, Some(Clock::new(samples::OPENED, to)), Theme { color: false })
    }

    pub(crate) fn with(width: u16, height: u16, clock: Option<Clock>, theme: Theme) -> Self {
        let terminal = Terminal::new(TestBackend::new(width, height)).expect("memory is a terminal");
        let mut state = State::new(samples::header(), theme, clock);
        state.update(Msg::Resize(width, height));
        Self { state, terminal }
    }

    pub(crate) fn showing(mut self, report: Report) -> Self {
        self.show(report);
        self
    }

    pub(crate) fn show(&mut self, report: Report) {
        self.state.update(Msg::Report(Box::new(report)));
    }

    pub(crate) fn key(&mut self, code: KeyCode) -> Option<Effect> {
        self.state.update(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    pub(crate) fn keys(&mut self, codes: &[KeyCode]) -> &mut Self {
        for code in codes {
            self.key(*code);
        }
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            self.key(KeyCode::Char(character));
        }
        self
    }

    pub(crate) fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) -> Option<Effect> {
        self.state.update(Msg::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }))
    }

    pub(crate) fn click(&mut self, column: u16, row: u16) -> Option<Effect> {
        self.mouse(MouseEventKind::Down(MouseButton::Left), column, row)
    }

    /// The current picture.
    pub(crate) fn picture(&mut self) -> String {
        self.terminal.draw(|frame| draw(&self.state, frame)).expect("memory can be written");
        self.terminal.backend().to_string()
    }

    /// True if anything in the last picture has a colour.
    pub(crate) fn has_colours(&self) -> bool {
        let buffer = self.terminal.backend().buffer();
        buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    }

    /// Text of the rows on which keys act: they are shown inverted.
    pub(crate) fn inverted(&mut self) -> Vec<String> {
        self.picture();
        let buffer = self.terminal.backend().buffer();
        let rows = buffer.content().chunks(usize::from(buffer.area.width));
        let inverted = rows.filter(|row| row.iter().all(|cell| cell.modifier.contains(Modifier::REVERSED)));
        inverted.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
    }
}

impl fmt::Debug for TestScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.state, f)
    }
}

/// The sample session with this id and sockets of its own.
pub(crate) fn session(id: &str, number: u64) -> Session {
    let mut session = Session { id: SessionId(id.into()), ..samples::whole() };
    session.opened_at = samples::OPENED.plus(Span::from_millis(number));
    for ends in session.links.iter_mut().filter_map(|link| link.tcp.as_mut()) {
        for socket in [&mut ends.near, &mut ends.far] {
            let inode = socket.and_then(|socket| socket.inode).unwrap_or(0) + 100_000 * number;
            *socket = Some(SocketId::new(inode, inode));
        }
    }
    session
}

/// Sample of a connection that transferred this many bytes.
fn established(bytes: u64) -> TcpMeasure {
    let info = TcpInfo { bytes_acked: bytes, bytes_received: bytes, rtt_us: 61, ..TcpInfo::default() };
    TcpMeasure { state: TcpState::Established, recv_q: 0, send_q: 0, timer: None, info: Some(info) }
}

/// A report of these sessions: bytes move on their first leg only.
pub(crate) fn report(sessions: Vec<Session>) -> Report {
    measured(sessions, |leg, _end, time| established(1_000 + if leg == 0 { 4_500 * time } else { 0 }), 'S')
}

/// A session whose stopped kubectl does not read: the diagnosis names it.
pub(crate) fn stuck() -> Report {
    let sessions = vec![session("s-4f9c2a", 0)];
    let waits = |leg, end, _time| match (leg, end) {
        (0, 0) => TcpMeasure { recv_q: 65_536, ..established(500_000) },
        (0, _) => {
            let timer = Some(Timer { kind: TimerKind::Probe, expires_ms: 800, retries: 4 });
            TcpMeasure { send_q: 2_565_120, timer, ..established(500_000) }
        }
        _ => established(500_000),
    };
    measured(sessions, waits, 'T')
}

/// A report with two samples of each end of each leg; `numbers` gets leg, end and time. The client has the given state,
/// all other processes sleep.
fn measured(sessions: Vec<Session>, numbers: impl Fn(usize, usize, u64) -> TcpMeasure, client: char) -> Report {
    let mut measures = Measures::default();
    for (time, at) in (0..).zip(TAKEN) {
        for session in &sessions {
            let legs = session.links.iter().filter(|link| link.kind == LinkKind::Tcp).filter_map(|link| link.tcp);
            for (leg, ends) in legs.enumerate() {
                for (end, socket) in [ends.near, ends.far].into_iter().enumerate() {
                    let socket = socket.expect("an end");
                    let fact = Fact::TcpMeasured { socket, tuple: None, measure: numbers(leg, end, time) };
                    measures.take(&Observation::new(at, Source::Snapshot, fact));
                }
            }
            for (index, hop) in session.hops.iter().enumerate() {
                let state = if index == 0 { client } else { 'S' };
                let fact = Fact::ProcessMeasured(Box::new(ProcessMeasure { state, ..ProcessMeasure::default() }));
                measures.take(&Observation::of(at, Source::Snapshot, hop.task, fact));
            }
        }
    }
    let mut report = Report { at: samples::after(63_000), sessions, measures, ..Report::default() };
    report.diagnosis = diagnosis(&report);
    report
}

/// A report of `count` sessions of several kinds, in several pods; each third one is closed.
pub(crate) fn crowd(count: u64) -> Report {
    let mut sessions: Vec<Session> = (0..count).map(|number| session(&format!("s-{number:06x}"), number)).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        let target = Arc::make_mut(&mut session.target);
        target.pod = Some(format!("web-{number}"));
        target.namespace = Some(["default", "kube-system"][number % 2].to_owned());
        session.command = ["sh".into(), "-c".into(), format!("echo {number}").as_str().into()].into();
        if number % 3 == 2 {
            session.state = Life::Closed;
            session.closed_at = Some(samples::after(30_000));
        }
        if number % 5 == 0 {
            session.links[0].confidence = Confidence::Strong;
        }
    }
    report(sessions)
}
