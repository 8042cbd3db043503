//! `execpath watch` in tmux, as a drawing: text stays text, and is sharp at any size.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anstyle_svg::Term;
use anyhow::{Context as _, Result, bail, ensure};

use crate::apt;
use crate::progress::Progress;
use crate::repo::{cargo, root, target};
use crate::tools::{find, run};

const RECORDING: &str = "docs/pictures/watch.jsonl.zst";
const PICTURE: &str = "docs/pictures/watch.svg";
/// Columns and lines: wide enough for path and details side by side, and narrow enough for a README.
const SIZE: (&str, &str) = ("120", "40");
/// Keys, and what the screen shows when they have done what they should.
const KEYS: &[(&str, usize, &str)] = &[
    // Back to a moment at which all are open.
    ("Left", 20, "4 sessions open"),
    // What is wrong first.
    ("s", 6, "HEALTH▾"),
    ("Home", 1, "F16"),
    // Into the path, to the leg on which it is wrong.
    ("Enter", 1, "Enter details"),
    ("Down", 2, "known by"),
];
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn take() -> Result<()> {
    if find("tmux").is_none() {
        apt::install(&["tmux"], &Progress::new())?;
    }
    let mut build = Command::new(cargo());
    ensure!(build.args(["build", "-p", "execpath"]).current_dir(root()).status()?.success(), "it does not build");
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

    /// What it shows, with its colours, once it shows that.
    fn shows(&self, what: &str) -> Result<String> {
        let patience = Instant::now() + PATIENCE;
        loop {
            if self.tmux(&["capture-pane", "-p"])?.contains(what) {
                return self.tmux(&["capture-pane", "-p", "-e"]);
            }
            if Instant::now() > patience {
                bail!("the screen shows no {what:?}:\n{}", self.tmux(&["capture-pane", "-p"])?);
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
    Term::new().render_svg(screen.trim_end())
}
