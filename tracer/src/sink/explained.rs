//! Explains each session in plain words below its drawing, for readers new to exec paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Header, Sink, Style, Target,
    color::Color,
    phrases::{self, NAME},
};
use crate::{
    escape,
    explain::{self, Explanation, Step},
    model::{BootTime, Change, Finding, Report, Session, SessionId, Span, State},
};

/// Width of prose: the narrowest common terminal.
const WIDTH: usize = 80;
/// Age from which an incomplete session is explained. Before, the missing parts are probably about to arrive.
const SETTLED: Span = Span::from_secs(1);
/// Columns before the text of a step.
const INDENT: &str = "     ";

/// Draws with another sink, and explains each session once: when its path is complete, when it closes, or when it is
/// older than `SETTLED`.
pub struct Explained {
    drawing: Box<dyn Sink>,
    target: Shared,
    style: Style,
    told: BTreeSet<SessionId>,
    /// Sessions whose drawing is delayed; they are explained once drawn.
    held: BTreeMap<SessionId, Arc<Session>>,
}

impl Explained {
    /// Explains to `target`, below the output of the sink that `draw` creates for the same target.
    pub fn new(target: Target, style: Style, draw: impl FnOnce(Target) -> Box<dyn Sink>) -> Self {
        let target = Shared(Arc::new(Mutex::new(target)));
        Self { drawing: draw(Box::new(target.clone())), target, style, told: BTreeSet::new(), held: BTreeMap::new() }
    }

    fn explain(&mut self, session: &Session) -> io::Result<()> {
        if session.merged_into.is_some() || !self.told.insert(session.id.clone()) {
            return Ok(());
        }
        let page = Page { style: self.style };
        self.target.write_all(page.session(session).as_bytes())?;
        self.drawing.interrupted();
        self.target.flush()
    }

    /// Handles a session that was drawn in its current state.
    fn drawn(&mut self, session: &Session, at: BootTime) -> io::Result<()> {
        let is_over = session.state == State::Closed;
        if session.complete || is_over || at.since(session.opened_at) >= SETTLED {
            self.explain(session)?;
        }
        if is_over {
            self.told.remove(&session.id);
        }
        Ok(())
    }
}

impl Sink for Explained {
    fn detailed(&mut self) {
        self.drawing.detailed();
    }

    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.drawing.host(header)
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        self.drawing.change(finding)?;
        match &finding.change {
            Change::Opened(session) | Change::Changed(session) | Change::Closed(session) => {
                if self.drawing.holds(&session.id) {
                    self.held.insert(session.id.clone(), Arc::clone(session));
                    return Ok(());
                }
                self.held.remove(&session.id);
                self.drawn(session, finding.at)
            }
            Change::Loss { .. } => Ok(()),
        }
    }

    fn passed(&mut self, now: BootTime) -> io::Result<()> {
        self.drawing.passed(now)?;
        let drawing = &self.drawing;
        let is_due = |session: &SessionId| !drawing.holds(session);
        let due: Vec<Arc<Session>> = self.held.extract_if(.., |id, _| is_due(id)).map(|(_, session)| session).collect();
        due.iter().try_for_each(|session| self.drawn(session, now))
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        self.drawing.finish(report)?;
        let held = std::mem::take(&mut self.held);
        held.values().filter(|session| session.state == State::Closed).try_for_each(|session| self.explain(session))?;
        for session in report.sessions.iter().filter(|session| session.state == State::Open) {
            self.explain(session)?;
        }
        Ok(())
    }
}

/// A target that two sinks write to.
#[derive(Clone)]
struct Shared(Arc<Mutex<Target>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

struct Page {
    style: Style,
}

impl Page {
    fn paint(&self, color: Color, text: &str) -> String {
        color.paint(self.style, text).into_owned()
    }

    fn session(&self, session: &Session) -> String {
        let id = escape::str(&session.id.0, NAME);
        let mut lines = vec![
            String::new(),
            format!("{} {}", self.paint(Color::Mark, "▸"), self.paint(Color::Mark, &format!("{id}  step by step"))),
        ];
        let mut hops = 0;
        for step in explain::steps(session) {
            let Some(explanation) = explain::explain(session, step) else { continue };
            let mark = match step {
                Step::Hop(_) => {
                    hops += 1;
                    format!("{hops:>2}")
                }
                Step::Session => String::new(),
                Step::Link(_) => " │".to_owned(),
                Step::Beyond(_) => " ↗".to_owned(),
                Step::Gap(_) => " ?".to_owned(),
            };
            lines.push(String::new());
            lines.extend(self.step(&mark, step, &explanation));
        }
        lines.join("\n") + "\n"
    }

    fn step(&self, mark: &str, step: Step, explanation: &Explanation) -> Vec<String> {
        let color = match step {
            Step::Session | Step::Hop(_) => Color::Bold,
            Step::Gap(_) => Color::Doubt,
            Step::Link(_) | Step::Beyond(_) => Color::Mark,
        };
        let mut lines = Vec::new();
        for (number, line) in phrases::folded(&explanation.title, WIDTH - INDENT.len()).into_iter().enumerate() {
            let mark = if number == 0 { mark } else { "" };
            lines.push(format!("  {mark:<3}{}", self.paint(color, &line)));
        }
        let known = explanation.known.join(" ");
        for text in [&explanation.what, &explanation.why, &known] {
            lines.extend(self.paragraph("", text));
        }
        for text in &explanation.unknown {
            lines.extend(self.paragraph("? ", text));
        }
        for manual in &explanation.manual {
            // Commands are for copying: never fold them.
            lines.push(format!("{INDENT}$ {}", self.paint(Color::Good, &manual.command)));
            lines.extend(self.paragraph("  ", &format!("shows {}", manual.shows)));
        }
        lines
    }

    /// Folds a paragraph. A mark before its first line makes it an aside, which is dimmed.
    fn paragraph(&self, mark: &str, text: &str) -> Vec<String> {
        let width = escape::columns(mark);
        let shown = |line: String| if mark.is_empty() { line } else { self.paint(Color::Dim, &line) };
        let lines = phrases::folded(text, WIDTH - INDENT.len() - width).into_iter().enumerate();
        lines
            .map(|(number, line)| {
                let mark = if number == 0 { mark } else { "" };
                format!("{INDENT}{mark:width$}{}", shown(line))
            })
            .collect()
    }
}
