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

use crate::stage::{Stage, crowd, report, session};

fn selected(stage: &Stage) -> &str {
    stage.state.session().map_or("", |session| &*session.id.0)
}

#[test]
fn movement_keys_stay_within_list() {
    let mut stage = Stage::new(80, 24).showing(crowd(10));
    // The newest session first.
    assert_eq!(selected(&stage), "s-000009");
    for (keys, expected) in [
        (&[Down][..], "s-000008"),
        (&[Char('j'), Char('j')], "s-000006"),
        (&[Char('k')], "s-000007"),
        (&[Home, Up], "s-000009"),
        (&[Char('G'), Down], "s-000000"),
        (&[Char('g')], "s-000009"),
        (&[End], "s-000000"),
        (&[Home, PageDown], "s-000004"),
    ] {
        assert_eq!(selected(stage.keys(keys)), expected, "{keys:?}");
    }
}

#[test]
fn enter_escape_and_tab_change_focus() {
    let mut stage = Stage::new(80, 24).showing(report(vec![session("s-1", 0)]));
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
        stage.key(key);
        assert_eq!(stage.state.focus(), focus, "{key:?}");
    }
    // Nothing can be entered in an empty list.
    let mut stage = Stage::new(80, 24).showing(Report::default());
    assert_eq!((stage.key(Enter), stage.state.focus()), (None, Focus::List));
}

#[test]
fn filter_can_be_typed_kept_and_dropped() {
    let mut stage = Stage::new(80, 24).showing(crowd(100));
    stage.text("/web-42q").key(Backspace);
    assert_eq!(selected(&stage), "s-00002a");
    stage.key(Enter);
    assert_eq!(selected(stage.keys(&[Down, End])), "s-00002a", "the only match");
    stage.key(Esc);
    assert_eq!(selected(stage.keys(&[Home])), "s-000063");
    // Letters are text while a filter is typed.
    stage.text("/q?sc ");
    assert!(stage.picture().contains("/q?sc ▏"));
    assert_eq!(stage.key(Esc), None);
    assert!(!stage.picture().contains("q?sc"));
}

#[test]
fn filter_matches_any_column_and_pids() {
    for text in ["kube-system", "ECHO 17", "web-17", "s-000011", "exec", "23605", "alice", "kubectl 23605"] {
        let mut stage = Stage::new(80, 24).showing(crowd(18));
        assert_eq!(selected(stage.text("/").text(text)), "s-000011", "{text}");
    }
}

#[test]
fn sort_keys_change_column_and_direction() {
    let mut stage = Stage::new(120, 24).showing(crowd(12));
    assert!(stage.picture().contains("AGE▾"));
    stage.text("S");
    assert!(stage.picture().contains("AGE▴"));
    assert_eq!(selected(stage.keys(&[Home])), "s-000000", "the oldest first");
    stage.text("Sss");
    assert!(stage.picture().contains("INTO▾"));
    assert_eq!(selected(stage.keys(&[Home])), "s-000000", "default/web-0 before default/web-10");
    assert_eq!(selected(stage.keys(&[Down])), "s-00000a");
    for _ in 0..5 {
        stage.text("s");
    }
    assert!(stage.picture().contains("AGE▾"), "around to the first column");
}

#[test]
fn closed_sessions_can_be_hidden() {
    let mut stage = Stage::new(80, 24).showing(crowd(3));
    assert!(stage.picture().contains("s-000002"));
    assert!(!stage.text("c").picture().contains("s-000002"));
    assert!(stage.text("c").picture().contains("s-000002"));
}

#[test]
fn pause_freezes_screen() {
    let mut stage = Stage::new(80, 24).showing(report(vec![session("s-1", 0)]));
    stage.text(" ");
    let before = stage.picture();
    assert!(before.contains("held still"));
    stage.show(crowd(3));
    assert_eq!(stage.picture(), before);
    assert!(stage.text(" ").picture().contains("s-000001"));
    assert!(!stage.state.is_held());
}

#[test]
fn selection_survives_changes_of_list() {
    let mut stage = Stage::new(80, 24).showing(crowd(50));
    stage.keys(&[Down, Down, Down]);
    let before = selected(&stage).to_owned();
    stage.show(crowd(900));
    assert_eq!(selected(&stage), before);
    assert_eq!(stage.inverted().len(), 1, "the selected row is in sight");
    // The newest session is the fourth one now, and goes.
    stage.show(crowd(47));
    stage.keys(&[Home, Down, Down]);
    let mut fewer = crowd(47);
    fewer.sessions.retain(|session| *session.id.0 != *"s-00002c");
    stage.show(fewer);
    assert_eq!(selected(&stage), "s-00002b", "the session in its place is selected");
    stage.show(crowd(1));
    assert_eq!(selected(&stage), "s-000000");
    stage.show(Report::default());
    assert_eq!(selected(&stage), "");
}

#[test]
fn selected_row_stays_visible() {
    let mut stage = Stage::new(80, 24).showing(crowd(200));
    for key in [Down, PageDown, PageDown, End, Up, Home, End] {
        stage.key(key);
        let shown = stage.inverted();
        assert_eq!(shown.len(), 1, "{key:?}");
        assert!(shown[0].starts_with(selected(&stage)), "{shown:?}");
    }
    stage.state.update(Msg::Resize(60, 12));
    assert!(stage.state.session().is_some());
}

#[test]
fn keys_seek_and_play_recording() {
    let at = |seconds: u64| Some(Effect::Seek(samples::OPENED.plus(Span::from_secs(seconds))));
    let millis = |millis: u64| Some(Effect::Seek(samples::OPENED.plus(Span::from_millis(millis))));
    let mut stage = Stage::replay(80, 24).showing(crowd(3));
    // A fiftieth of a minute; with Shift a five-hundredth.
    assert_eq!(stage.key(Left), millis(58_800));
    assert_eq!(stage.key(Char('h')), millis(57_600));
    assert_eq!(stage.key(Right), millis(58_800));
    assert_eq!(stage.key(Char('H')), millis(58_680));
    assert_eq!(stage.key(Char('l')), millis(59_880));
    assert_eq!(stage.key(Right), at(60), "not past the end");
    // Playing starts again from the beginning, because the moment was at the end.
    assert_eq!(stage.key(Char(' ')), at(0));
    let second = || Msg::Tick(Span::from_secs(1));
    assert_eq!(stage.state.update(second()), at(1));
    stage.text("++");
    assert_eq!(stage.state.update(second()), at(5), "four times as fast");
    stage.text("---");
    assert_eq!(stage.state.update(second()), millis(5_500), "half as fast");
    stage.text(" ");
    assert_eq!(stage.state.update(second()), None, "the replay is paused");
}

#[test]
fn live_screen_ignores_seek_keys() {
    let mut stage = Stage::new(80, 24).showing(crowd(3));
    for key in [Left, Right, Char('+'), Char('-')] {
        assert_eq!(stage.key(key), None);
    }
}

#[test]
fn q_and_ctrl_c_quit() {
    let control = |character| Msg::Key(KeyEvent::new(Char(character), KeyModifiers::CONTROL));
    let mut stage = Stage::new(80, 24).showing(crowd(3));
    assert_eq!(stage.key(Char('q')), Some(Effect::Quit));
    assert_eq!(stage.state.update(control('c')), Some(Effect::Quit));
    assert_eq!(stage.state.update(control('l')), Some(Effect::Redraw));
    assert_eq!(stage.text("/").state.update(control('c')), Some(Effect::Quit), "while a filter is typed, too");
    let mut released = KeyEvent::new(Char('q'), KeyModifiers::NONE);
    released.kind = KeyEventKind::Release;
    let mut stage = Stage::new(80, 24);
    assert_eq!(stage.state.update(Msg::Key(released)), None, "a released key is ignored");
}

#[test]
fn next_key_closes_help() {
    let mut stage = Stage::new(80, 24).showing(crowd(3));
    assert!(stage.text("?").picture().contains(" keys "));
    stage.key(Esc);
    assert!(!stage.picture().contains(" keys "));
    assert!(!stage.text("??").picture().contains(" keys "));
}

#[test]
fn mouse_selects_sorts_and_scrolls() {
    let mut stage = Stage::new(80, 24).showing(crowd(100));
    // Title, columns, rows.
    stage.click(3, 4);
    assert_eq!(selected(&stage), "s-000061", "the third row");
    stage.mouse(MouseEventKind::ScrollDown, 3, 4);
    assert_eq!(selected(&stage), "s-00005e", "three rows on");
    stage.click(26, 1);
    assert!(stage.picture().contains("INTO▾"), "{}", stage.picture());
    stage.click(26, 1);
    assert!(stage.picture().contains("INTO▴"));
    stage.click(10, 14);
    assert_eq!(stage.state.focus(), Focus::Path);
    assert_eq!(stage.inverted().len(), 1);
    // An empty place.
    assert_eq!(stage.click(79, 23), None);
}

#[test]
fn click_on_timeline_seeks() {
    let mut stage = Stage::replay(80, 24).showing(crowd(3));
    assert_eq!(stage.click(0, 22), Some(Effect::Seek(samples::OPENED)));
    assert_eq!(stage.click(79, 22), Some(Effect::Seek(samples::OPENED.plus(Span::from_secs(60)))));
}
