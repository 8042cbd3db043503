//! `watch`: the live screen on a real terminal. `tui` decides the content; this module has the clock, input, signals
//! and the source of sessions.
#![expect(clippy::disallowed_methods, reason = "edge: the screen is repainted at an interval")]

use std::{
    io,
    time::{Duration, Instant},
};

use ratatui::crossterm::event::{self, Event};

use crate::{
    model::Span,
    tui::{Clock, Effect, Msg, State, Theme, draw},
};

mod error;
mod latest;
mod player;
mod signals;
mod terminal;

pub use error::WatchError;
pub use latest::LiveTrace;
pub use player::Player;
use terminal::Screen;

/// Shortest interval between two pictures: animations look smooth, and an idle screen uses almost no CPU.
const BEAT: Duration = Duration::from_millis(100);
/// Most observations of a recording processed between two checks of the keyboard.
const BUDGET: usize = 20_000;

/// Source of sessions.
pub enum Feed {
    /// The running kernel.
    Live(LiveTrace),
    /// A recording.
    Recording(Box<Player>),
}

/// Shows the screen until a key or signal ends it. With `panics`, the key `!` causes a panic, for tests of the
/// terminal's restoration.
///
/// # Errors
/// When the terminal cannot be used, the trace fails, or the recording cannot be read.
pub fn watch(feed: Feed, theme: Theme, panics: bool) -> Result<(), WatchError> {
    let stop = signals::listen()?;
    let mut feed = feed;
    // Start the trace first: if it fails, the screen stays untouched.
    if let Feed::Live(trace) = &mut feed
        && !trace.wait()
    {
        return feed.end();
    }
    let mut state = feed.initial_state(theme);
    let outcome = {
        let mut screen = Screen::enter()?;
        run(&mut screen, &mut feed, &mut state, &stop, panics)
    };
    outcome.and(feed.end())
}

fn run(
    screen: &mut Screen,
    feed: &mut Feed,
    state: &mut State,
    stop: &signals::StopFlag,
    panics: bool,
) -> Result<(), WatchError> {
    let size = screen.size()?;
    let mut last = Instant::now();
    state.update(Msg::Resize(size.width, size.height));
    while !stop.is_set() && !screen.is_restored() {
        screen.draw(|frame| draw(state, frame))?;
        let keys = keys(last + BEAT, panics)?;
        // A key moves on from the moment that the newest report is about.
        let mut msgs = feed.messages()?;
        msgs.extend(keys);
        let now = Instant::now();
        let passed = now.duration_since(last);
        if passed >= BEAT {
            last = now;
            msgs.push(Msg::Tick(Span(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))));
        }
        for msg in msgs {
            match state.update(msg) {
                Some(Effect::Quit) => return Ok(()),
                Some(Effect::Seek(at)) => feed.seek(at),
                Some(Effect::Redraw) => screen.clear()?,
                None => {}
            }
        }
        if feed.is_over() {
            return Ok(());
        }
    }
    Ok(())
}

/// Input until `until`. Input that has arrived is read completely.
fn keys(until: Instant, panics: bool) -> io::Result<Vec<Msg>> {
    let mut msgs = Vec::new();
    terminal::await_input(until)?;
    // Poll even without input: a resize arrives as a signal.
    while event::poll(Duration::ZERO)? {
        msgs.extend(match event::read()? {
            Event::Key(key) => {
                #[expect(clippy::panic, reason = "asked for, by a hidden option")]
                if panics && key.code == event::KeyCode::Char('!') {
                    panic!("asked for");
                }
                Some(Msg::Key(key))
            }
            Event::Mouse(mouse) => Some(Msg::Mouse(mouse)),
            Event::Resize(width, height) => Some(Msg::Resize(width, height)),
            Event::FocusGained | Event::FocusLost | Event::Paste(_) => None,
        });
    }
    Ok(msgs)
}

impl Feed {
    fn initial_state(&mut self, theme: Theme) -> State {
        match self {
            Self::Live(trace) => State::new(trace.header(), theme, None),
            Self::Recording(player) => {
                let (from, to) = player.span();
                let mut state = State::new(player.header(), theme, Some(Clock::new(from, to)));
                state.note = player.note();
                state.update(Msg::Moment(from));
                player.seek_beginning();
                state
            }
        }
    }

    /// New reports for the screen.
    fn messages(&mut self) -> Result<Vec<Msg>, WatchError> {
        match self {
            Self::Live(trace) => {
                let (header, note) = trace.take_news();
                let header = header.map(|header| Msg::Header(Box::new(header)));
                let report = trace.take_report().map(|report| Msg::Report(Box::new(report)));
                Ok([header, note.map(Msg::Note), report].into_iter().flatten().collect())
            }
            Self::Recording(player) => {
                let Some(report) = player.play(BUDGET).map_err(WatchError::Recording)? else { return Ok(Vec::new()) };
                Ok(vec![Msg::Moment(player.moment()), Msg::Report(Box::new(report))])
            }
        }
    }

    fn seek(&mut self, at: crate::model::BootTime) {
        match self {
            Self::Live(_) => {}
            Self::Recording(player) => player.seek(at),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Live(trace) => trace.is_over(),
            Self::Recording(_) => false,
        }
    }

    fn end(self) -> Result<(), WatchError> {
        match self {
            Self::Live(trace) => trace.end(),
            Self::Recording(_) => Ok(()),
        }
    }
}
