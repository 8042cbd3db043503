//! `run` on a real terminal: job control, Ctrl-C and the foreground process group.

use execpath_tests::{binary, pane::Pane};

fn line(pane: &Pane, script: &str) {
    pane.line(&format!("{} run -- sh -c '{script}'; echo code=$?", binary::path().display()));
}

#[test]
fn ctrl_c_reaches_the_command() {
    let Some(pane) = Pane::shell() else { return };
    line(&pane, "trap \"echo interrupted; exit 5\" INT; echo read''y; while :; do sleep 0.02; done");
    pane.shows("\nready");
    pane.keys(&["C-c"]);
    pane.shows("interrupted");
    // A trap of the shell's own list runs on: bash ends the list only if a signal killed the job.
    pane.shows("code=5");
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let Some(pane) = Pane::shell() else { return };
    line(&pane, "echo read''y; read word; echo got-$word; exit 6");
    pane.shows("\nready");
    pane.keys(&["C-z"]);
    pane.shows("Stopped");
    pane.line("fg; echo fg=$?");
    pane.job_owns_terminal();
    pane.line("hello");
    pane.shows("got-hello");
    pane.shows("fg=6");
}

#[test]
fn command_owns_the_terminal() {
    let Some(pane) = Pane::shell() else { return };
    line(&pane, "tty -s && stty size; ps -o stat= -p $$ | tr -d \" \"");
    let picture = pane.shows("code=0");
    assert!(picture.contains("\n24 80\n"), "{picture}");
    assert!(picture.lines().any(|line| line.ends_with('+')), "in the foreground: {picture}");
}
