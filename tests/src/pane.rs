//! A real terminal, which tmux plays: with keys, sizes and signals.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binary;

/// Longest time that anything takes on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A terminal with a shell in it, in which execpath was started.
pub struct Pane {
    folder: TempDir,
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

impl Pane {
    /// Starts `execpath ARGUMENTS` in one of 80 columns and 24 lines. `None`, and said, where there is no tmux.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: there is no tmux; apt-get install tmux");
            return None;
        }
        let pane = Self { folder: tempfile::tempdir().expect("a folder") };
        // The pid of the screen, then the screen itself; after it, what it left.
        let script = format!(
            "echo before; sh -c 'echo $$ > {pid}; exec \"$@\"' sh {binary} {arguments}; \
             echo left $?; stty -a | tr ' ;' '\\n\\n' | grep -x -e -*icanon -e -*echo | tr '\\n' ' '; echo; exec cat",
            pid = pane.pid_file().display(),
            binary = binary::path().display(),
            arguments = arguments.join(" "),
        );
        pane.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", &script]);
        Some(pane)
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    /// What tmux answers.
    pub fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.folder.path().join("tmux");
        let mut tmux = Command::new("tmux");
        // tmux draws in UTF-8 whatever the surroundings say.
        tmux.args(["-u", "-S"]).arg(socket).args(arguments).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        tmux.env_remove("NO_COLOR").env("RUST_BACKTRACE", "0");
        String::from_utf8_lossy(&tmux.output().expect("tmux runs").stdout).into_owned()
    }

    /// Presses these, by tmux's names.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// What is on it.
    #[must_use]
    pub fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until it shows that; gives what is on it then.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub fn shows(&self, what: &str) -> String {
        self.until(what, |picture| picture.contains(what))
    }

    /// Waits until what is on it is so; gives that.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let patience = Instant::now() + PATIENCE;
        loop {
            let picture = self.picture();
            if is(&picture) {
                return picture;
            }
            assert!(Instant::now() < patience, "no {what:?} on\n{picture}");
            thread::sleep(LOOK);
        }
    }

    /// Sends a signal to execpath.
    pub fn signal(&self, signal: Signal) {
        let text = fs::read_to_string(self.pid_file()).expect("it runs");
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// execpath ended with that code, and the terminal is as it was: its own screen, a cursor, no mouse, lines and echo.
    ///
    /// # Panics
    /// When it is not so within a minute.
    pub fn is_as_before(&self, code: i32) {
        let picture = self.shows(&format!("left {code}\nicanon echo"));
        assert!(picture.starts_with("before\n"), "{picture}");
        let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{mouse_any_flag} #{cursor_flag}"]);
        assert_eq!(flags.trim(), "0 0 1", "alternate screen, mouse, cursor");
    }
}
