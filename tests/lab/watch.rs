//! The live screen on a real terminal: a session appears, moves bytes and ends, and the terminal is restored.

use execpath_tests::pane::Pane;

use crate::{
    kubectl::{Exec, Mode, mark},
    reported::COMPLETE_PATH,
};

/// The hops of the drawn path.
fn hops(picture: &str) -> Vec<&str> {
    let words = picture.lines().filter_map(|line| line.split_whitespace().next());
    words.filter(|word| COMPLETE_PATH.contains(word)).collect()
}

/// Number of connections with bytes moving in both directions.
fn moving(picture: &str) -> usize {
    picture.lines().filter(|line| line.contains("exact  ▸") && line.contains(" B ◂") && line.contains("tcp")).count()
}

#[test]
fn screen_shows_session_from_start_to_end() {
    let Some(pane) = Pane::start(&["watch"]) else { return };
    pane.shows("no session is open; new ones appear here");
    let mark = mark();
    let mut kubectl = Exec { mode: Mode::Stdin, ..Exec::sh(&format!(": {mark}; cat; exit 3")) }.start();
    pane.shows(&format!("$ sh -c ': {mark}; cat; exit 3'"));
    pane.shows("1 session open");
    // Waiting for input: the sample shows no fault.
    let still = |picture: &str| picture.contains("F23 waiting for input") && moving(picture) == 0;
    let picture = pane.until("still path that waits for input", still);
    assert_eq!(hops(&picture), COMPLETE_PATH, "{picture}");
    for leg in ["exact  tcp  ", "exact  joined inside", "exact  fork started", "exact  exec became"] {
        assert!(picture.contains(leg), "no {leg:?} on\n{picture}");
    }

    kubectl.write("what cat sends back\n");
    // Bytes move in both directions at least on the connections from kubectl to the kubelet.
    pane.until("bytes that move", |picture| moving(picture) >= 2);

    kubectl.close_stdin();
    assert_eq!(kubectl.end().status.code(), Some(3));
    let picture = pane.shows("closed: exited with code 3");
    assert!(picture.contains("0 sessions open") && picture.contains("exit 3"), "{picture}");
    pane.keys(&["q"]);
    pane.is_restored(0);
}
