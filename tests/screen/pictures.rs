//! Pictures of the screen.

use std::sync::Arc;

use execpath::{
    escape,
    model::{Gap, GapCode, RawText, Report, Role},
    tui::{Msg, Theme},
};
use execpath_tests::samples;
use ratatui::crossterm::event::KeyCode::{self, Down, End, Enter, Home, PageDown};

use crate::test_screen::{TestScreen, crowd, report, session, stuck};

#[test]
fn small_screen_matches_snapshot() {
    let mut screen = TestScreen::new(80, 24).showing(report(vec![session("s-4f9c2a", 0)]));
    insta::assert_snapshot!("one.80x24", screen.picture());
    screen.keys(&[Enter, Down, Down, Enter]);
    insta::assert_snapshot!("one.80x24.leg", screen.picture());
}

#[test]
fn large_screen_matches_snapshot() {
    let mut screen = TestScreen::new(120, 40).showing(report(vec![session("s-4f9c2a", 0)]));
    insta::assert_snapshot!("one.120x40", screen.picture());
    screen.keys(&[Enter, Down]);
    insta::assert_snapshot!("one.120x40.hop", screen.picture());
}

#[test]
fn fault_is_shown_at_its_link() {
    let mut screen = TestScreen::new(120, 40).showing(stuck());
    assert!(screen.picture().contains("F16 the client does not read"), "{}", screen.picture());
    insta::assert_snapshot!("fault.120x40", screen.picture());
    screen.keys(&[Enter, Down, Down]);
    insta::assert_snapshot!("fault.120x40.leg", screen.picture());
}

#[test]
fn screen_of_thousand_sessions_matches_snapshots() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(1_000));
    insta::assert_snapshot!("crowd.80x24", screen.picture());
    screen.key(End);
    insta::assert_snapshot!("crowd.80x24.last", screen.picture());
    screen.keys(&[Home, PageDown]);
    insta::assert_snapshot!("crowd.80x24.page", screen.picture());
    screen.text("/kube-system 999");
    insta::assert_snapshot!("crowd.80x24.filter", screen.picture());
}

/// Words of the hops in sight, from the client on.
fn hops(picture: &str) -> Vec<&str> {
    const ROLES: [&str; 7] = ["kubectl", "apiserver", "kubelet", "runtime", "shim", "runc", "process"];
    let words = picture
        .lines()
        .filter(|line| line.contains("· pid "))
        .filter_map(|line| line.trim_start_matches('"').split_whitespace().next());
    words.filter(|word| ROLES.contains(word)).collect()
}

#[test]
fn small_screen_shows_whole_paths() {
    let mut live = TestScreen::new(80, 24).showing(crowd(1_000));
    let mut replay = TestScreen::replay(80, 24).showing(crowd(1_000));
    for screen in [&mut live, &mut replay] {
        let picture = screen.picture();
        assert_eq!(hops(&picture).len(), 7, "{picture}");
        assert_eq!(picture.matches("joined inside").count(), 2, "not folded: {picture}");
    }
    // A longer path is folded, and one that is longer still says what is missing.
    let mut long = session("s-1", 0);
    long.gaps = vec![Gap { code: GapCode::LostEvents, between: None, text: "12 records were lost".into() }; 3];
    let mut screen = TestScreen::replay(80, 24).showing(crowd(20));
    screen.show(report(vec![long.clone(), session("s-2", 1), session("s-3", 2), session("s-4", 3)]));
    screen.keys(&[End]);
    let picture = screen.picture();
    assert_eq!(hops(&picture).len(), 7, "{picture}");
    assert_eq!((picture.matches("joined inside").count(), picture.matches("┊ exact").count()), (0, 2), "{picture}");
    assert_eq!(picture.matches("12 records were lost").count(), 3, "{picture}");
    insta::assert_snapshot!("folded.80x24", picture);
    long.gaps.extend(long.gaps.clone());
    screen.show(report(vec![long.clone(), session("s-2", 1), session("s-3", 2), session("s-4", 3)]));
    assert!(screen.picture().contains("… 3 lines more: Enter, then ↓"), "{}", screen.picture());
    // Entered, it scrolls in full.
    screen.keys(&[Enter, End]);
    let picture = screen.picture();
    assert!(picture.contains("process    sh") && !picture.contains("lines more"), "{picture}");
    screen.keys(&[Home]);
    assert_eq!(screen.picture().matches("joined inside").count(), 2);
}

#[test]
fn replay_screen_shows_timeline() {
    let mut screen = TestScreen::replay(80, 24).showing(report(vec![session("s-4f9c2a", 0)]));
    insta::assert_snapshot!("replay.80x24", screen.picture());
    for _ in 0..20 {
        screen.key(KeyCode::Left);
    }
    insta::assert_snapshot!("replay.80x24.back", screen.picture());
}

#[test]
fn wide_characters_are_cut_at_their_column() {
    let mut wide = session("s-4f9c2a", 0);
    wide.command = ["echo".into(), "日本語".repeat(30).as_str().into()].into();
    let mut screen = TestScreen::new(80, 24).showing(report(vec![wide]));
    let picture = screen.picture();
    let head = picture.lines().find_map(|line| line.split_once("IDLE")).expect("the list has column names").0;
    let row = picture.lines().find_map(|line| line.split_once('…')).expect("the list cuts the command").0;
    assert!(row.contains('日') && escape::columns(row) + 2 <= escape::columns(head), "{picture}");
}

#[test]
fn help_matches_snapshot() {
    let mut screen = TestScreen::new(80, 24).showing(Report::default());
    insta::assert_snapshot!("help.80x24", screen.text("?").picture());
}

#[test]
fn empty_screen_explains_itself() {
    let mut screen = TestScreen::new(80, 24);
    assert!(screen.picture().contains("looking …"));
    screen.show(Report::default());
    assert!(screen.picture().contains("no session is open; new ones appear here"));
    screen.show(crowd(3));
    assert!(screen.text("/xyz").picture().contains("no session matches the filter"));
    screen.state.update(Msg::Note("cut after line 7".into()));
    assert!(screen.picture().contains("cut after line 7"));
    let mut screen = TestScreen::replay(80, 24).showing(Report::default());
    assert!(screen.picture().contains("no session at this moment of the recording"));
}

#[test]
fn every_terminal_size_is_drawn() {
    for (width, height) in [(1, 1), (10, 3), (39, 30), (40, 10), (41, 11), (79, 12), (109, 50), (110, 10), (300, 100)] {
        let mut screen = TestScreen::new(width, height).showing(stuck());
        for keys in [&[][..], &[Enter], &[Enter, Enter], &[KeyCode::Char('?')]] {
            let picture = screen.keys(keys).picture();
            assert_eq!(picture.lines().count(), usize::from(height), "{width}×{height}");
            let drawn = picture.contains("execpath  worker") || picture.contains("┌ keys ");
            assert_eq!(drawn, width >= 40 && height >= 10, "{picture}");
        }
    }
}

#[test]
fn only_legs_with_traffic_are_animated() {
    let legs = |screen: &mut TestScreen| -> Vec<String> {
        let picture = screen.picture();
        picture.lines().filter(|line| line.contains("tcp ")).map(str::to_owned).collect()
    };
    let mut screen = TestScreen::new(80, 24).showing(report(vec![session("s-4f9c2a", 0)]));
    let before = legs(&mut screen);
    screen.state.update(Msg::Tick(execpath::model::Span::from_millis(100)));
    let after = legs(&mut screen);
    assert_eq!(before.len(), 3, "{before:?}");
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    assert!(before[0].contains("▸1.5 kB ◂1.5 kB"), "{}", before[0]);
    assert!(before[1].contains("─".repeat(8).as_str()), "{}", before[1]);
}

#[test]
fn missing_samples_are_shown_as_not_measured() {
    let mut screen = TestScreen::new(80, 24).showing(Report { sessions: vec![samples::whole()], ..Report::default() });
    let picture = screen.picture();
    let legs: Vec<&str> = picture.lines().filter(|line| line.contains("tcp ")).collect();
    assert!(legs.len() == 3 && legs.iter().all(|leg| leg.contains("╌╌╌╌╌╌╌╌ exact  tcp")), "{legs:?}");
    assert!(picture.contains("too few measurements"), "{picture}");
    assert!(screen.keys(&[Enter, Down, Down, Enter]).picture().contains("not measured"));
}

#[test]
fn colours_require_style_option() {
    for color in [false, true] {
        let mut screen = TestScreen::with(80, 24, None, Theme { color }).showing(stuck());
        screen.picture();
        assert_eq!(screen.has_colours(), color);
    }
}

/// Hostile text, as an attacker may choose it.
const BAD: &str = "\x1b[2J\u{202e}\u{9b}31m\u{200b}x\r\n\x07\x1b]0;t\x07";

fn hostile() -> Report {
    let mut one = session("s-4f9c2a", 0);
    let bad = || Some(BAD.to_owned());
    let target = Arc::make_mut(&mut one.target);
    (target.pod, target.namespace, target.container, target.container_id) = (bad(), bad(), bad(), bad());
    one.exec_id = Some(BAD.into());
    one.command = [BAD.into(), RawText::from(b"\xff\x1b".as_slice())].into();
    for hop in &mut one.hops {
        let process = Arc::make_mut(&mut hop.process);
        (process.comm, process.argv, process.exe) = (BAD.into(), vec![BAD.into(); 3], Some(BAD.into()));
    }
    for link in &mut one.links {
        if let Some((path, ..)) = &mut link.unix {
            *path = BAD.repeat(50).as_str().into();
        }
    }
    let client = &mut one.client;
    (client.uid_name, client.login_name, client.tty) = (bad(), bad(), bad());
    if let Some(user) = &mut client.user {
        (user.user.name, user.user.impersonated) = (BAD.to_owned(), bad());
    }
    one.gaps.push(Gap { code: GapCode::LostEvents, between: Some((0, 99)), text: BAD.repeat(50) });
    report(vec![one])
}

#[test]
fn screen_escapes_hostile_names() {
    for (width, height) in [(80, 24), (120, 60)] {
        let mut screen = TestScreen::new(width, height).showing(hostile());
        screen.state.header.host.hostname = BAD.into();
        screen.state.update(Msg::Note(BAD.into()));
        screen.text("/x").key(Enter);
        screen.key(Enter);
        for _ in 0..20 {
            let picture = screen.picture();
            let hidden: Vec<char> = picture.chars().filter(|c| *c != '\n' && escape::is_hidden(*c)).collect();
            assert!(hidden.is_empty(), "{hidden:?}\n{picture}");
            assert!(picture.contains("\\x1b"), "the text is shown escaped: {picture}");
            screen.keys(&[Enter, KeyCode::Esc, Down]);
        }
    }
}

#[test]
fn details_exist_for_every_step() {
    let one = session("s-4f9c2a", 0);
    let steps = execpath::explain::steps(&one);
    let mut screen = TestScreen::new(120, 60).showing(report(vec![one.clone()]));
    screen.key(Enter);
    for step in steps {
        let explanation = execpath::explain::explain(&one, step).expect("the step has an explanation");
        // A long title continues on the next line: compare its beginning.
        let begin: String = explanation.title.chars().take(12).collect();
        assert!(screen.picture().contains(&begin), "{step:?}: {begin}\n{}", screen.picture());
        screen.key(Down);
    }
    assert_eq!(one.hops.last().map(|hop| hop.role), Some(Role::Process));
}
