//! Effects of keys and mouse.

use execpath::{
    model::{Report, Span},
    tui::{Effect, Focus, Msg},
};
use execpath_tests::samples;
use ratatui::crossterm::event::{
    KeyCode::{BackTab, Backspace, Char, Down, End, Enter, Esc, Home, Left, PageDown, Right, Tab, Up},
    KeyEvent, KeyEventKind, KeyModifiers, MouseEventKind,
};

use crate::test_screen::{TestScreen, crowd, report, session};

fn selected(screen: &TestScreen) -> &str {
    screen.state.session().map_or("", |session| &*session.id.0)
}

#[test]
fn movement_keys_stay_within_list() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(10));
    // The newest session first.
    assert_eq!(selected(&screen), "s-000009");
    for (keys, expected) in [
        (&[Down][..], "s-000008"),
        (&[Char('j'), Char('j')], "s-000006"),
        (&[Char('k')], "s-000007"),
        (&[Home, Up], "s-000009"),
        (&[Char('G'), Down], "s-000000"),
        (&[Char('g')], "s-000009"),
        (&[End], "s-000000"),
        (&[Home, PageDown], "s-000006"),
    ] {
        assert_eq!(selected(screen.keys(keys)), expected, "{keys:?}");
    }
}

#[test]
fn enter_escape_and_tab_change_focus() {
    let mut screen = TestScreen::new(80, 24).showing(report(vec![session("s-1", 0)]));
    for (key, focus) in [
        (Enter, Focus::Path),
        (Enter, Focus::Details),
        (Enter, Focus::Details),
        (Esc, Focus::Path),
        (Esc, Focus::List),
        (Tab, Focus::Path),
        (Tab, Focus::Details),
        (Tab, Focus::List),
        (BackTab, Focus::Details),
    ] {
        screen.key(key);
        assert_eq!(screen.state.focus(), focus, "{key:?}");
    }
    // Nothing can be entered in an empty list.
    let mut screen = TestScreen::new(80, 24).showing(Report::default());
    assert_eq!((screen.key(Enter), screen.state.focus()), (None, Focus::List));
}

#[test]
fn filter_can_be_typed_kept_and_dropped() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(100));
    screen.text("/web-42q").key(Backspace);
    assert_eq!(selected(&screen), "s-00002a");
    screen.key(Enter);
    assert_eq!(selected(screen.keys(&[Down, End])), "s-00002a", "the only match");
    screen.key(Esc);
    assert_eq!(selected(screen.keys(&[Home])), "s-000063");
    // Letters are text while a filter is typed.
    screen.text("/q?sc ");
    assert!(screen.picture().contains("/q?sc ▏"));
    assert_eq!(screen.key(Esc), None);
    assert!(!screen.picture().contains("q?sc"));
}

#[test]
fn filter_matches_any_column_and_pids() {
    for text in ["kube-system", "ECHO 17", "web-17", "s-000011", "exec", "23605", "alice", "kubectl 23605"] {
        let mut screen = TestScreen::new(80, 24).showing(crowd(18));
        assert_eq!(selected(screen.text("/").text(text)), "s-000011", "{text}");
    }
}

#[test]
fn sort_keys_change_column_and_direction() {
    let mut screen = TestScreen::new(120, 24).showing(crowd(12));
    assert!(screen.picture().contains("AGE▾"));
    screen.text("S");
    assert!(screen.picture().contains("AGE▴"));
    assert_eq!(selected(screen.keys(&[Home])), "s-000000", "the oldest first");
    screen.text("Sss");
    assert!(screen.picture().contains("INTO▾"));
    assert_eq!(selected(screen.keys(&[Home])), "s-000000", "default/web-0 before default/web-10");
    assert_eq!(selected(screen.keys(&[Down])), "s-00000a");
    for _ in 0..5 {
        screen.text("s");
    }
    assert!(screen.picture().contains("AGE▾"), "around to the first column");
}

#[test]
fn closed_sessions_can_be_hidden() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(3));
    assert!(screen.picture().contains("s-000002"));
    assert!(!screen.text("c").picture().contains("s-000002"));
    assert!(screen.text("c").picture().contains("s-000002"));
}

#[test]
fn pause_freezes_screen() {
    let mut screen = TestScreen::new(80, 24).showing(report(vec![session("s-1", 0)]));
    screen.text(" ");
    let before = screen.picture();
    assert!(before.contains("paused"));
    screen.show(crowd(3));
    assert_eq!(screen.picture(), before);
    assert!(screen.text(" ").picture().contains("s-000001"));
    assert!(!screen.state.is_paused());
}

#[test]
fn selection_survives_changes_of_list() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(50));
    screen.keys(&[Down, Down, Down]);
    let before = selected(&screen).to_owned();
    screen.show(crowd(900));
    assert_eq!(selected(&screen), before);
    assert_eq!(screen.inverted().len(), 1, "the selected row is in sight");
    // The newest session is the fourth one now, and goes.
    screen.show(crowd(47));
    screen.keys(&[Home, Down, Down]);
    let mut fewer = crowd(47);
    fewer.sessions.retain(|session| *session.id.0 != *"s-00002c");
    screen.show(fewer);
    assert_eq!(selected(&screen), "s-00002b", "the session in its place is selected");
    screen.show(crowd(1));
    assert_eq!(selected(&screen), "s-000000");
    screen.show(Report::default());
    assert_eq!(selected(&screen), "");
}

#[test]
fn selected_row_stays_visible() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(200));
    for key in [Down, PageDown, PageDown, End, Up, Home, End] {
        screen.key(key);
        let shown = screen.inverted();
        assert_eq!(shown.len(), 1, "{key:?}");
        assert!(shown[0].starts_with(selected(&screen)), "{shown:?}");
    }
    screen.state.update(Msg::Resize(60, 12));
    assert!(screen.state.session().is_some());
}

#[test]
fn keys_seek_and_play_recording() {
    let at = |seconds: u64| Some(Effect::Seek(samples::OPENED.plus(Span::from_secs(seconds))));
    let millis = |millis: u64| Some(Effect::Seek(samples::OPENED.plus(Span::from_millis(millis))));
    let mut screen = TestScreen::replay(80, 24).showing(crowd(3));
    // A fiftieth of a minute; with Shift a five-hundredth.
    assert_eq!(screen.key(Left), millis(58_800));
    assert_eq!(screen.key(Char('h')), millis(57_600));
    assert_eq!(screen.key(Right), millis(58_800));
    assert_eq!(screen.key(Char('H')), millis(58_680));
    assert_eq!(screen.key(Char('l')), millis(59_880));
    assert_eq!(screen.key(Right), at(60), "not past the end");
    assert_eq!(screen.key(Char('[')), at(0));
    assert_eq!(screen.key(Char(']')), at(60));
    // The caller chooses the moment of the next reports.
    assert_eq!(screen.state.update(Msg::Moment(samples::OPENED.plus(Span::from_secs(30)))), None);
    assert_eq!(screen.key(Right), millis(31_200));
    assert_eq!(screen.key(Char(']')), at(60));
    // Playing starts again from the beginning, because the moment was at the end.
    assert_eq!(screen.key(Char(' ')), at(0));
    let second = || Msg::Tick(Span::from_secs(1));
    assert_eq!(screen.state.update(second()), at(1));
    screen.text("++");
    assert_eq!(screen.state.update(second()), at(5), "four times as fast");
    screen.text("---");
    assert_eq!(screen.state.update(second()), millis(5_500), "half as fast");
    screen.text(" ");
    assert_eq!(screen.state.update(second()), None, "the replay is paused");
}

#[test]
fn live_screen_ignores_seek_keys() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(3));
    for key in [Left, Right, Char('['), Char(']'), Char('+'), Char('-')] {
        assert_eq!(screen.key(key), None);
    }
}

#[test]
fn q_and_ctrl_c_quit() {
    let control = |character| Msg::Key(KeyEvent::new(Char(character), KeyModifiers::CONTROL));
    let mut screen = TestScreen::new(80, 24).showing(crowd(3));
    assert_eq!(screen.key(Char('q')), Some(Effect::Quit));
    assert_eq!(screen.state.update(control('c')), Some(Effect::Quit));
    assert_eq!(screen.state.update(control('l')), Some(Effect::Redraw));
    assert_eq!(screen.text("/").state.update(control('c')), Some(Effect::Quit), "while a filter is typed, too");
    let mut released = KeyEvent::new(Char('q'), KeyModifiers::NONE);
    released.kind = KeyEventKind::Release;
    let mut screen = TestScreen::new(80, 24);
    assert_eq!(screen.state.update(Msg::Key(released)), None, "a released key is ignored");
}

#[test]
fn next_key_closes_help() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(3));
    assert!(screen.text("?").picture().contains(" keys "));
    screen.key(Esc);
    assert!(!screen.picture().contains(" keys "));
    assert!(!screen.text("??").picture().contains(" keys "));
}

#[test]
fn mouse_selects_sorts_and_scrolls() {
    let mut screen = TestScreen::new(80, 24).showing(crowd(100));
    // Title, columns, rows.
    screen.click(3, 4);
    assert_eq!(selected(&screen), "s-000061", "the third row");
    screen.mouse(MouseEventKind::ScrollDown, 3, 4);
    assert_eq!(selected(&screen), "s-00005e", "three rows on");
    screen.click(26, 1);
    assert!(screen.picture().contains("INTO▾"), "{}", screen.picture());
    screen.click(26, 1);
    assert!(screen.picture().contains("INTO▴"));
    screen.click(10, 14);
    assert_eq!(screen.state.focus(), Focus::Path);
    assert_eq!(screen.inverted().len(), 1);
    // An empty place.
    assert_eq!(screen.click(79, 23), None);
}

#[test]
fn click_on_timeline_seeks() {
    let mut screen = TestScreen::replay(80, 24).showing(crowd(3));
    assert_eq!(screen.click(0, 22), Some(Effect::Seek(samples::OPENED)));
    assert_eq!(screen.click(79, 22), Some(Effect::Seek(samples::OPENED.plus(Span::from_secs(60)))));
}
