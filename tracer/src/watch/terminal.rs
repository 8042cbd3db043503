//! Takes the terminal, and restores it in every case: at the end, on an error, on a panic of any thread.

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

/// True while the terminal is in use by the screen.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal in raw mode, on its alternate screen.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                // Restore first, so that the panic message is readable.
                restore();
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
            restore();
        }
        screen
    }

    /// True if a panic restored the terminal already.
    #[expect(clippy::unused_self, reason = "it is this screen's state, though others change it")]
    pub(super) fn is_restored(&self) -> bool {
        !TAKEN.load(Ordering::SeqCst)
    }

    pub(super) fn size(&self) -> io::Result<Size> {
        self.0.size()
    }

    pub(super) fn draw(&mut self, paint: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(paint).map(drop)
    }

    /// Clears the screen, so that the next picture is painted completely.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Waits for input until a deadline.
///
/// A closed terminal (window closed, connection lost) is readable forever without data. crossterm would read in an
/// endless loop, and signals would never be checked. Hence this check before each read.
///
/// # Errors
/// When the terminal is closed, or cannot be polled.
pub(super) fn await_input(until: Instant) -> io::Result<()> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&left)) {
        Ok(_) => {}
        // A signal arrived: the caller checks for it.
        Err(Errno::INTR) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let [polled] = polled;
    if polled.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "it is gone"));
    }
    Ok(())
}

/// Restores the terminal, once. Errors are ignored: they could not be reported on this terminal.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
