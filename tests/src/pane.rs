//! A real terminal provided by tmux, with keys, sizes and signals.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binary;

/// Longest wait on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A terminal with a shell that runs execpath.
pub struct Pane {
    folder: TempDir,
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

impl Pane {
    /// Starts `execpath ARGUMENTS` in a terminal of 80 columns and 24 lines. Prints a notice and returns `None` without
    /// tmux.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: there is no tmux; apt-get install tmux");
            return None;
        }
        let pane = Self { folder: tempfile::tempdir().expect("a folder") };
        // Write the pid of the screen and run the screen; afterwards, print the exit code and terminal modes.
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

    /// Starts an interactive shell in a terminal of 80 columns and 24 lines. Prints a notice and returns `None` without
    /// tmux or bash.
    #[must_use]
    pub fn shell() -> Option<Self> {
        let is_missing = |program: &str, flag: &str| Command::new(program).arg(flag).output().is_err();
        if is_missing("tmux", "-V") || is_missing("bash", "--version") {
            eprintln!("skipped: there is no tmux or no bash; apt-get install tmux bash");
            return None;
        }
        let pane = Self { folder: tempfile::tempdir().expect("a folder") };
        let bash = ["bash", "--norc", "--noprofile", "-i"];
        pane.tmux(&[&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"], &bash[..]].concat());
        pane.line("PS1='> '; clear");
        Some(pane)
    }

    /// Types a line.
    pub fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.keys(&["Enter"]);
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    /// Runs a tmux command. Returns its stdout.
    pub fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.folder.path().join("tmux");
        let mut tmux = Command::new("tmux");
        // Makes tmux draw in UTF-8 in any environment.
        tmux.args(["-u", "-S"]).arg(socket).args(arguments).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        tmux.env_remove("NO_COLOR").env("RUST_BACKTRACE", "0");
        String::from_utf8_lossy(&tmux.output().expect("tmux runs").stdout).into_owned()
    }

    /// Presses keys, by tmux's names.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// The text on the terminal.
    #[must_use]
    pub fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the terminal shows this text. Returns the whole text.
    ///
    /// # Panics
    /// If the text does not appear within a minute.
    pub fn shows(&self, what: &str) -> String {
        self.until(what, |picture| picture.contains(what))
    }

    /// Waits until the text on the terminal satisfies `is`. Returns the text.
    ///
    /// # Panics
    /// If the condition does not hold within a minute.
    pub fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + TIMEOUT;
        loop {
            let picture = self.picture();
            if is(&picture) {
                return picture;
            }
            assert!(Instant::now() < end, "no {what:?} on\n{picture}");
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until a job of the shell owns the terminal. Keys pressed earlier may still arrive in the shell's line
    /// editor, which leaves carriage returns in the terminal that end no line for the job.
    ///
    /// # Panics
    /// If no job does within a minute.
    pub fn job_owns_terminal(&self) {
        let shell: i32 = self.tmux(&["display-message", "-p", "#{pane_pid}"]).trim().parse().expect("a pid");
        let stat = || Process::new(shell).and_then(|shell| shell.stat()).expect("the shell runs");
        self.until("job in the foreground", |_| {
            let stat = stat();
            stat.tpgid != stat.pgrp
        });
    }

    /// Sends a signal to execpath.
    pub fn signal(&self, signal: Signal) {
        let text = fs::read_to_string(self.pid_file()).expect("execpath writes its pid");
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("execpath is running");
    }

    /// Checks that execpath exited with this code, and that the terminal is restored: main screen, cursor, no mouse,
    /// line mode and echo.
    ///
    /// # Panics
    /// If this does not hold within a minute.
    pub fn is_restored(&self, code: i32) {
        let picture = self.shows(&format!("left {code}\nicanon echo"));
        assert!(picture.starts_with("before\n"), "{picture}");
        let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{mouse_any_flag} #{cursor_flag}"]);
        assert_eq!(flags.trim(), "0 0 1", "alternate screen, mouse, cursor");
    }
}
