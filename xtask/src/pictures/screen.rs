//! `execpath watch` in tmux, as an SVG drawing: text stays text and is sharp at any size.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anstyle_svg::{Term, WIN10_CONSOLE};
use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::progress::Progress;
use crate::repo::{root, target, test_cargo};
use crate::tools::{find, run};

const RECORDING: &str = "docs/pictures/watch.jsonl.zst";
const PICTURE: &str = "docs/pictures/watch.svg";
/// Columns and lines: wide enough for path and details side by side, narrow enough for a README.
const SIZE: (&str, &str) = ("120", "40");
/// Keys with their repeat count, and a text that the screen shows afterwards.
const KEYS: &[(&str, usize, &str)] = &[
    // From the first fault to the end, and back to a moment with all sessions open.
    ("]", 1, "kubelet"),
    ("Left", 20, "4 sessions open"),
    // Faults first.
    ("s", 6, "HEALTH▾"),
    ("Home", 1, "F16"),
    // Into the path, to the leg with the fault.
    ("Enter", 1, "Enter details"),
    ("Down", 2, "known by"),
];
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn take() -> Result<()> {
    if find("tmux").is_none() {
        apt::install(&["tmux"], &Progress::new())?;
    }
    run(test_cargo("build").args(["--bin", "execpath"]))?;
    let folder = tempfile::tempdir()?;
    let terminal = Terminal { socket: &folder.path().join("tmux") };
    let binary = target().join("debug/execpath");
    let watch = format!("{} watch {}", binary.display(), root().join(RECORDING).display());
    terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", SIZE.0, "-y", SIZE.1, &watch])?;
    let taken = terminal.take();
    terminal.tmux(&["kill-server"])?;
    fs::write(root().join(PICTURE), drawing(&taken?)).context(PICTURE)
}

struct Terminal<'a> {
    socket: &'a Path,
}

impl Terminal<'_> {
    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut tmux = crate::tools::command("tmux");
        tmux.args(["-u", "-S"]).arg(self.socket).args(arguments).env_remove("TMUX").env_remove("NO_COLOR");
        tmux.env("LC_ALL", "C.UTF-8");
        run(&mut tmux)
    }

    /// Waits until the screen shows `what`. Returns the screen with its colours.
    fn shows(&self, what: &str) -> Result<String> {
        let patience = Instant::now() + PATIENCE;
        loop {
            if self.tmux(&["capture-pane", "-p"])?.contains(what) {
                return self.tmux(&["capture-pane", "-p", "-e"]);
            }
            if Instant::now() > patience {
                bail!("the screen does not show {what:?}:\n{}", self.tmux(&["capture-pane", "-p"])?);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn take(&self) -> Result<String> {
        let mut shown = self.shows("kubelet")?;
        for (key, times, done) in KEYS {
            self.tmux(&["send-keys", "-N", &times.to_string(), key])?;
            shown = self.shows(done)?;
        }
        Ok(shown)
    }
}

fn drawing(screen: &str) -> String {
    // The default palette is that of 1987, with dim text that cannot be read.
    Term::new()
        .palette(WIN10_CONSOLE)
        .render_svg(screen.trim_end())
        .replace(".dimmed { opacity: 0.4; }", ".dimmed { opacity: 0.7; }")
}
