//! The terminal, taken and given back whatever happens: at the end, on an error, on a panic of any thread.

use std::{
    io::{self, Stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{DisableMouseCapture, EnableMouseCapture},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::Size,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal while it is ours.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes it.
    pub(super) fn enter() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                // First: what is told must be readable.
                give_back();
                before(info);
            }));
        });
        TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        let screen = Terminal::new(CrosstermBackend::new(io::stdout())).and_then(|terminal| {
            execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture)?;
            Ok(Self(terminal))
        });
        if screen.is_err() {
            give_back();
        }
        screen
    }

    /// Whether it was given back already: somebody panicked.
    #[expect(clippy::unused_self, reason = "it is this screen's state, though others change it")]
    pub(super) fn is_gone(&self) -> bool {
        !TAKEN.load(Ordering::SeqCst)
    }

    pub(super) fn size(&self) -> io::Result<Size> {
        self.0.size()
    }

    pub(super) fn draw(&mut self, paint: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(paint).map(drop)
    }

    /// Paints everything anew the next time.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Waits until something was typed, or it is that late. A terminal that is gone (a window that was closed, a connection that broke) can
/// be read for ever and gives nothing: crossterm would do so without an end, and then no signal is looked at any more.
///
/// # Errors
/// When the terminal is gone, or cannot be asked.
pub(super) fn await_input(until: Instant) -> io::Result<()> {
    let stdin = io::stdin();
    let mut asked = [PollFd::new(&stdin, PollFlags::IN)];
    let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
    match poll(&mut asked, Some(&left)) {
        Ok(_) => {}
        // A signal: whoever asks looks what it was.
        Err(Errno::INTR) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let [asked] = asked;
    if asked.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "it is gone"));
    }
    Ok(())
}

/// Gives it back, once. What fails is left: there is no other way to tell.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
