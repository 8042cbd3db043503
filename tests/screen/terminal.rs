//! The screen on a real terminal, with keys, sizes and signals, and the restored terminal.

use std::path::Path;

use execpath_tests::pane::Pane;
use rustix::process::Signal;

/// Starts the screen on a recording.
fn open(name: &str, arguments: &[&str]) -> Option<Pane> {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name);
    let recording = recording.to_str().expect("a path that can be typed");
    Pane::start(&[&["watch", recording], arguments].concat())
}

/// The same, at the end of a recording without a fault.
fn watch(arguments: &[&str]) -> Option<Pane> {
    let pane = open("terminal.jsonl.zst", arguments)?;
    pane.shows("kubectl · pid 19574");
    pane.keys(&["]"]);
    Some(pane)
}

#[test]
fn recording_opens_at_its_first_fault_or_session() {
    let Some(pane) = open("terminal.jsonl.zst", &[]) else { return };
    let picture = pane.shows("1 session open");
    assert!(picture.contains("kubectl · pid 19574") && !picture.contains("closed: exited"), "{picture}");
    pane.keys(&["]"]);
    pane.shows("closed: exited with code 0");
    pane.keys(&["["]);
    pane.shows("no session at this moment of the recording");
    pane.keys(&["q"]);
    pane.is_restored(0);
    // kubectl is stopped while the command prints.
    let Some(pane) = open("stopped.jsonl.zst", &[]) else { return };
    let picture = pane.shows("F16 the client does not read");
    assert!(picture.contains("1 session open, 1 fault"), "{picture}");
    pane.keys(&["q"]);
    pane.is_restored(0);
}

#[test]
fn keys_navigate_recording_on_terminal() {
    let Some(pane) = watch(&[]) else { return };
    let picture = pane.shows("closed: exited with code 0");
    assert!(picture.contains("default/web/web") && picture.contains("kube-apiserver · pid 19405"), "{picture}");
    // The leg from kubectl to the API server.
    pane.keys(&["Enter", "Down", "Down", "Enter"]);
    pane.shows("TCP connection 192.168.205.1:40304 to 192.168.205.10:6443");
    // A key right behind Escape would be read as a part of it.
    pane.keys(&["Escape"]);
    pane.shows("Enter details");
    pane.keys(&["/", "xyz"]);
    pane.shows("no session matches the filter");
    pane.keys(&["Escape"]);
    pane.shows("closed: exited with code 0");
    pane.keys(&["?"]);
    pane.shows("the wheel scrolls");
    pane.keys(&["q"]);
    pane.is_restored(0);
}

#[test]
fn recording_plays_to_its_end_on_terminal() {
    let Some(pane) = watch(&[]) else { return };
    pane.shows("closed: exited with code 0");
    pane.keys(&["-", "-", "-", "Space"]);
    pane.shows("▶");
    // The replay follows the clock: the session appears, and closes at the end.
    pane.shows("‖ 331 ms of 331 ms");
    pane.shows("closed: exited with code 0");
    pane.keys(&["q"]);
    pane.is_restored(0);
}

#[test]
fn screen_adapts_to_terminal_size() {
    let Some(pane) = watch(&[]) else { return };
    pane.shows("closed: exited with code 0");
    assert!(!pane.picture().contains("kubectl exec: the container"));
    pane.tmux(&["resize-window", "-x", "130", "-y", "40"]);
    pane.shows("kubectl exec: the container web of the pod default/web");
    pane.tmux(&["resize-window", "-x", "30", "-y", "8"]);
    pane.shows("too small: 40×10 at least");
    pane.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    pane.shows("closed: exited with code 0");
    pane.keys(&["C-c"]);
    pane.shows("left 0");
}

#[test]
fn signals_restore_terminal() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let Some(pane) = watch(&[]) else { return };
        pane.shows("closed: exited with code 0");
        pane.signal(signal);
        pane.is_restored(0);
    }
}

#[test]
fn panic_restores_terminal_and_is_printed() {
    let Some(pane) = watch(&["--panics"]) else { return };
    pane.shows("closed: exited with code 0");
    pane.keys(&["!"]);
    pane.is_restored(101);
    assert!(pane.picture().contains("asked for"), "{}", pane.picture());
}

#[test]
fn color_never_disables_colours() {
    let coloured = |pane: &Pane| pane.tmux(&["capture-pane", "-p", "-e"]).contains("[38;5;");
    for (arguments, expected) in [(&[][..], true), (&["--color", "never"], false)] {
        let Some(pane) = watch(arguments) else { return };
        pane.shows("closed: exited with code 0");
        assert_eq!(coloured(&pane), expected, "{arguments:?}");
    }
}
