//! The screen on a real terminal: tmux plays it, with keys, sizes and signals; and what it leaves behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use execpath_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest time that anything takes on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A terminal with a shell in it, in which the screen was started.
struct Pane {
    folder: TempDir,
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

impl Pane {
    /// `None`, and said, where there is no tmux.
    fn start(arguments: &[&str]) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: there is no tmux; apt-get install tmux");
            return None;
        }
        let pane = Self { folder: tempfile::tempdir().expect("a folder") };
        let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/terminal.jsonl.zst");
        // The pid of the screen, then the screen itself; after it, what it left.
        let script = format!(
            "echo before; sh -c 'echo $$ > {pid}; exec \"$@\"' sh {binary} watch {recording} {arguments}; \
             echo left $?; stty -a | tr ' ;' '\\n\\n' | grep -x -e -*icanon -e -*echo | tr '\\n' ' '; echo; exec cat",
            pid = pane.pid_file().display(),
            binary = binary::path().display(),
            recording = recording.display(),
            arguments = arguments.join(" "),
        );
        pane.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", &script]);
        Some(pane)
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.folder.path().join("tmux");
        let mut tmux = Command::new("tmux");
        // tmux draws in UTF-8 whatever the surroundings say.
        tmux.args(["-u", "-S"]).arg(socket).args(arguments).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        tmux.env_remove("NO_COLOR").env("RUST_BACKTRACE", "0");
        String::from_utf8_lossy(&tmux.output().expect("tmux runs").stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows that.
    fn shows(&self, what: &str) -> String {
        let patience = Instant::now() + PATIENCE;
        loop {
            let picture = self.picture();
            if picture.contains(what) {
                return picture;
            }
            assert!(Instant::now() < patience, "no {what:?} on\n{picture}");
            thread::sleep(LOOK);
        }
    }

    fn signal(&self, signal: Signal) {
        let text = fs::read_to_string(self.pid_file()).expect("it runs");
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// The terminal is as it was: its own screen, a cursor, no mouse, lines and echo.
    fn is_as_before(&self, code: i32) {
        let picture = self.shows(&format!("left {code}\nicanon echo"));
        assert!(picture.starts_with("before\n"), "{picture}");
        let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{mouse_any_flag} #{cursor_flag}"]);
        assert_eq!(flags.trim(), "0 0 1", "alternate screen, mouse, cursor");
    }
}

#[test]
fn a_recording_is_looked_at_with_keys() {
    let Some(pane) = Pane::start(&[]) else { return };
    let picture = pane.shows("over: exited with code 0");
    assert!(picture.contains("default/web/web") && picture.contains("kube-apiserver · pid 19405"), "{picture}");
    // The leg from kubectl to the API server.
    pane.keys(&["Enter", "Down", "Down", "Enter"]);
    pane.shows("TCP connection 192.168.205.1:40304 to 192.168.205.10:6443");
    // A key right behind Escape would be taken for a part of it.
    pane.keys(&["Escape"]);
    pane.shows("Enter details");
    pane.keys(&["/", "xyz"]);
    pane.shows("no session matches the filter");
    pane.keys(&["Escape"]);
    pane.shows("over: exited with code 0");
    pane.keys(&["?"]);
    pane.shows("the wheel scrolls");
    pane.keys(&["q"]);
    pane.is_as_before(0);
}

#[test]
fn a_recording_is_wound_back_and_played_to_its_end() {
    let Some(pane) = Pane::start(&[]) else { return };
    pane.shows("over: exited with code 0");
    pane.keys(&["-", "-", "-", "Space"]);
    pane.shows("▶");
    // It is played by the clock: the session comes up, and is over in the end.
    pane.shows("⏸ 331 ms of 331 ms");
    pane.shows("over: exited with code 0");
    pane.keys(&["q"]);
    pane.is_as_before(0);
}

#[test]
fn it_fits_itself_to_the_size_of_the_terminal() {
    let Some(pane) = Pane::start(&[]) else { return };
    pane.shows("over: exited with code 0");
    assert!(!pane.picture().contains("kubectl exec: the container"));
    pane.tmux(&["resize-window", "-x", "130", "-y", "40"]);
    pane.shows("kubectl exec: the container web of the pod default/web");
    pane.tmux(&["resize-window", "-x", "30", "-y", "8"]);
    pane.shows("too small: 40×10 at least");
    pane.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    pane.shows("over: exited with code 0");
    pane.keys(&["C-c"]);
    pane.shows("left 0");
}

#[test]
fn signals_end_it_and_the_terminal_is_as_before() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let Some(pane) = Pane::start(&[]) else { return };
        pane.shows("over: exited with code 0");
        pane.signal(signal);
        pane.is_as_before(0);
    }
}

#[test]
fn a_panic_is_told_on_a_terminal_that_is_as_before() {
    let Some(pane) = Pane::start(&["--panics"]) else { return };
    pane.shows("over: exited with code 0");
    pane.keys(&["!"]);
    pane.is_as_before(101);
    assert!(pane.picture().contains("asked for"), "{}", pane.picture());
}

#[test]
fn colours_are_used_unless_they_are_not_wanted() {
    let coloured = |pane: &Pane| pane.tmux(&["capture-pane", "-p", "-e"]).contains("[38;5;");
    for (arguments, expected) in [(&[][..], true), (&["--color", "never"], false)] {
        let Some(pane) = Pane::start(arguments) else { return };
        pane.shows("over: exited with code 0");
        assert_eq!(coloured(&pane), expected, "{arguments:?}");
    }
}
