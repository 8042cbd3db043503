//! Sinks by themselves, on sample sessions.

use std::sync::Arc;

use execpath::{
    escape,
    model::{
        AuditUser, Change, ExitReason, ExitStatus, Finding, Gap, GapCode, Health, RawText, Report, Session,
        SessionExit, SessionId, Totals,
    },
    sink::{self, FORMATS, Header, LISTS, SHOWN, Sink as _, Style, Table},
};
use execpath_tests::samples::{self, CaptureWriter, finding};

fn rendered(format: &str, header: &Header, findings: &[Finding], report: &Report) -> String {
    let kept = CaptureWriter::default();
    let format = sink::format(format).expect("a format of that name");
    let mut sink = (format.open)(Box::new(kept.clone()), Style { color: false });
    sink.host(header).expect("memory can be written");
    for seen in findings {
        sink.change(seen).expect("memory can be written");
    }
    sink.finish(report).expect("memory can be written");
    kept.text()
}

fn drawn(findings: &[Finding]) -> String {
    rendered("tree", &samples::header(), findings, &Report::default())
}

#[test]
fn sample_timeline_matches_snapshots_in_every_format() {
    let (findings, report) = samples::timeline();
    for format in FORMATS {
        insta::assert_snapshot!(
            format!("timeline.{}", format.name),
            rendered(format.name, &samples::header(), &findings, &report)
        );
    }
}

#[test]
fn tree_lines_fit_hundred_columns() {
    let (findings, report) = samples::timeline();
    for line in rendered("tree", &samples::header(), &findings, &report).lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn growing_session_is_drawn_once() {
    let text = drawn(&samples::life());
    assert_eq!(text.matches("apiserver  kube-apiserver").count(), 1, "{text}");
    assert!(!text.contains("drawn again"), "{text}");
}

#[test]
fn thousand_growing_sessions_are_drawn_in_one_piece_each() {
    const MANY: usize = 1_000;
    let life = samples::life();
    // Each step of all sessions, then the next step.
    let steps = (0..life.len()).flat_map(|step| (0..MANY).map(move |number| (number, step)));
    // The endings are lines of their own, apart from the paths.
    assert_eq!(drawn_whole(MANY, &life, &crowd(&life, steps)), MANY);
}

#[test]
fn complete_path_does_not_interrupt_growing_path() {
    const MANY: usize = 100;
    let life = samples::life();
    let trios = (0..MANY).flat_map(|number| trio(number * 3, life.len()));
    // The ending of the quick sessions follows their path directly.
    assert_eq!(drawn_whole(MANY * 3, &life, &crowd(&life, trios)), MANY * 2);
}

#[test]
fn session_is_explained_after_its_drawing() {
    const MANY: usize = 20;
    let life = samples::life();
    let crowd = crowd(&life, (0..MANY).flat_map(|number| trio(number * 3, life.len())));
    let text = rendered("explain", &samples::header(), &crowd, &Report::default());
    for number in 0..MANY * 3 {
        let drawn = text.find(&format!("▸ s-{number:04}  exec")).expect("the session is drawn");
        let explained: Vec<usize> =
            text.match_indices(&format!("▸ s-{number:04}  step by step")).map(|(at, _)| at).collect();
        assert!(explained.len() == 1 && explained[0] > drawn, "{number}: {drawn}, {explained:?}");
    }
}

/// Steps of three sessions: two grow at the same time, the third one completes and closes between two of their steps.
fn trio(first: usize, steps: usize) -> impl Iterator<Item = (usize, usize)> {
    let slow = (0..steps).flat_map(move |step| [(first, step), (first + 1, step)]);
    let quick = (0..steps).map(move |step| (first + 2, step));
    slow.clone().take(4).chain(quick).chain(slow.skip(4))
}

/// Sessions with the findings of `life`, in this order of (session, step).
fn crowd(life: &[Finding], order: impl Iterator<Item = (usize, usize)>) -> Vec<Finding> {
    let of = |change: &Change, number: usize| {
        let other =
            |session: &Session| Session { id: SessionId(format!("s-{number:04}").into()), ..session.clone() }.into();
        match change {
            Change::Opened(session) => Change::Opened(other(session)),
            Change::Changed(session) => Change::Changed(other(session)),
            Change::Closed(session) => Change::Closed(other(session)),
            Change::Loss { .. } => change.clone(),
        }
    };
    // All findings have the same time, so that no session waits too long.
    order.map(|(number, step)| Finding { at: life[0].at, change: of(&life[step].change, number) }).collect()
}

/// Checks that each of these sessions is drawn in one piece, with its ending. Returns the number of endings drawn apart
/// from the path.
fn drawn_whole(many: usize, life: &[Finding], crowd: &[Finding]) -> usize {
    let text = drawn(crowd);
    let path = drawn_path(&drawn(life));
    let blocks: Vec<&str> = text.split("\n\n").filter(|block| block.contains("▸")).collect();
    let (whole, brief): (Vec<&str>, Vec<&str>) = blocks.into_iter().partition(|block| block.contains("kube-apiserver"));
    assert_eq!(whole.len(), many);
    for block in whole {
        assert_eq!(drawn_path(block), path, "{block}");
    }
    assert_eq!(text.lines().filter(|line| line.contains("╰")).count(), many, "{text}");
    assert!(!text.contains("drawn again") && !text.contains("(continued)"), "{text}");
    brief.iter().flat_map(|block| block.lines()).filter(|line| line.contains("╰")).count()
}

/// Lines of hops and links, by their first words.
fn drawn_path(block: &str) -> Vec<&'static str> {
    const WORDS: [&str; 9] =
        ["kubectl ", "apiserver ", "kubelet ", "runtime ", "shim ", "runc ", "process ", "│ tcp", "┊ joined"];
    block.lines().filter_map(|line| WORDS.into_iter().find(|word| line.trim_start().starts_with(word))).collect()
}

#[test]
fn tree_distinguishes_endings() {
    let mut failed = samples::closed(ExitStatus::Code(0));
    failed.exit = Some(SessionExit { code: None, signal: None, reason: ExitReason::StartFailed });
    let mut unknown = samples::closed(ExitStatus::Code(0));
    unknown.exit = None;
    unknown.complete = false;
    unknown.hops.pop();
    unknown.links.pop();
    unknown.gaps = vec![
        Gap { code: GapCode::ProcessUnknown, between: None, text: "the process in the container was not seen".into() },
        Gap { code: GapCode::LostEvents, between: Some((4, 5)), text: "12 records were lost while it was open".into() },
    ];
    let endings = [
        samples::closed(ExitStatus::Code(0)),
        samples::closed(ExitStatus::Code(137)),
        samples::closed(ExitStatus::Signal(15)),
        failed,
        unknown,
    ];
    let last = endings.map(|session| {
        let text = drawn(&[finding(61_022, Change::Closed, session)]);
        text.lines().filter(|line| line.starts_with("  ?") || line.starts_with("  ╰")).collect::<Vec<_>>().join("\n")
    });
    assert_eq!(
        last.join("\n"),
        "  ╰ exited with code 0 after 1 min 1 s
  ╰ exited with code 137 after 1 min 1 s
  ╰ killed by signal 15 (SIGTERM) after 1 min 1 s
  ╰ the runtime could not start it; closed after 1 min 1 s
  ? the process in the container was not seen
  ? between shim and runc: 12 records were lost while it was open
  ╰ closed after 1 min 1 s; exit status not known · the path is not complete"
    );
}

#[test]
fn tree_names_remote_client_by_address() {
    let mut session = samples::whole();
    session.hops.remove(0);
    session.links.retain_mut(|link| {
        let inside = link.from > 0;
        (link.from, link.to) = (link.from.saturating_sub(1), link.to.saturating_sub(1));
        inside
    });
    session.beyond.push(("client", "10.0.0.7:51233".parse().expect("an address")));
    let text = drawn(&[finding(1, Change::Opened, session)]);
    assert!(text.contains("\n  beyond     client at 10.0.0.7:51233, not on this host\n  apiserver "), "{text}");
}

pub(crate) fn hostile() -> (Header, Session) {
    const BAD: &str = "\x1b[2J\u{202e}\u{9b}31m\u{200b}\u{fffe}x\r\n\x07";
    let mut header = samples::header();
    header.host.hostname = BAD.into();
    header.host.kernel = BAD.into();
    let mut session = samples::whole();
    session.id.0 = BAD.into();
    let target = Arc::make_mut(&mut session.target);
    (target.pod, target.namespace, target.container) = (Some(BAD.into()), Some(BAD.into()), Some(BAD.into()));
    session.exec_id = Some(BAD.into());
    session.command = [BAD.into(), RawText::from(b"\xff\x1b".as_slice())].into();
    for hop in &mut session.hops {
        let process = Arc::make_mut(&mut hop.process);
        process.comm = BAD.into();
        process.argv = vec![BAD.into(); 3];
        process.exe = Some(BAD.into());
    }
    for link in &mut session.links {
        if let Some((path, ..)) = &mut link.unix {
            *path = RawText::from(BAD.repeat(100).as_str());
        }
    }
    let client = &mut session.client;
    (client.uid_name, client.login_name, client.tty) = (Some(BAD.into()), Some(BAD.into()), Some(BAD.into()));
    for above in client.parents.iter_mut().flat_map(Arc::make_mut) {
        above.comm = BAD.into();
    }
    if let Some(user) = &mut client.user {
        user.audit_id = Some(BAD.into());
        let (name, agent) = (BAD.repeat(20), Some(BAD.into()));
        user.user = AuditUser { name, groups: vec![BAD.into(); 9], impersonated: Some(BAD.into()), agent };
    }
    session.gaps.push(Gap { code: GapCode::LostEvents, between: Some((0, 99)), text: BAD.repeat(50) });
    (header, session)
}

#[test]
fn every_format_escapes_hostile_names() {
    let (header, session) = hostile();
    let loss = Finding { at: samples::OPENED, change: Change::Loss { what: "\x1b[31m".into(), count: 1 } };
    let mut over = session.clone();
    over.state = execpath::model::State::Closed;
    let findings = [finding(1, Change::Opened, session), loss, finding(2_000, Change::Closed, over)];
    let totals = Totals { lost: [("\x1b]0;t\x07".into(), 1)].into(), ..Totals::default() };
    for format in FORMATS {
        let text = rendered(format.name, &header, &findings, &Report { totals: totals.clone(), ..Report::default() });
        let hidden: Vec<char> = text.chars().filter(|c| *c != '\n' && escape::is_hidden(*c)).collect();
        assert!(hidden.is_empty(), "{}: {hidden:?}\n{text}", format.name);
    }
}

#[test]
fn every_list_escapes_hostile_names() {
    let (header, session) = hostile();
    let report = Report { at: samples::after(60_000), sessions: vec![session], ..Report::default() };
    for format in LISTS.iter().chain(SHOWN) {
        let kept = CaptureWriter::default();
        let mut sink = (format.open)(Box::new(kept.clone()), Style { color: false });
        sink.fit(80);
        sink.host(&header).expect("memory can be written");
        sink.finish(&report).expect("memory can be written");
        let text = kept.text();
        let hidden: Vec<char> = text.chars().filter(|c| *c != '\n' && escape::is_hidden(*c)).collect();
        assert!(hidden.is_empty(), "{}: {hidden:?}\n{text}", format.name);
    }
}

#[test]
fn table_of_thousand_sessions_fits_terminal() {
    let session = |number: usize| {
        let mut session = samples::whole();
        session.id = SessionId(format!("s-{number:010x}").into());
        Arc::make_mut(&mut session.target).pod = Some(format!("a-deployment-with-a-long-name-{number}-x7k2p"));
        session.command = ["sh".into(), "-c".into(), "x".repeat(number).as_str().into()].into();
        session
    };
    let mut report =
        Report { at: samples::after(60_000), sessions: (0..1_000).map(session).collect(), ..Report::default() };
    let health = |number: usize| match number {
        0..7 => Health::Fault { code: "F01", short: "node unreachable" },
        7..10 => Health::Fault { code: "F04", short: "webhook" },
        10..50 => Health::Waiting,
        _ => Health::Ok,
    };
    let healths = report.sessions.iter().enumerate().map(|(number, session)| (session.id.clone(), health(number)));
    report.diagnosis.health = healths.skip(1).collect();
    for columns in [80_u16, 100, 120, 200] {
        let kept = CaptureWriter::default();
        let mut table = Table::new(Box::new(kept.clone()), Style { color: false });
        table.fit(columns);
        table.host(&samples::header()).expect("memory can be written");
        table.finish(&report).expect("memory can be written");
        let text = kept.text();
        assert_eq!(text.lines().count(), 1 + report.sessions.len() + 1, "a row each");
        let last = "1000 sessions: node unreachable 6, webhook 3, ok 950, waiting 40, unknown 1";
        assert_eq!(text.lines().last(), Some(last), "the last line counts sessions by health, faults first");
        let wide = text.lines().find(|line| line.chars().count() > usize::from(columns));
        assert_eq!(wide, None);
        // Ids are arguments of `show`: they are never cut.
        let whole = text.lines().skip(1).zip(&report.sessions).all(|(row, session)| row.starts_with(&*session.id.0));
        assert!(whole, "{columns}\n{text}");
        assert!(text.lines().nth(900).is_some_and(|row| row.contains('…')), "{columns}");
    }
    // Tables for programs have no summary line.
    let kept = CaptureWriter::default();
    let mut table = Table::new(Box::new(kept.clone()), Style { color: false });
    table.finish(&report).expect("memory can be written");
    assert_eq!(kept.text().lines().count(), 1 + report.sessions.len());
}

#[test]
fn wide_characters_keep_columns_aligned() {
    let mut session = samples::whole();
    Arc::make_mut(&mut session.target).pod = Some("東京".repeat(8));
    session.command = ["echo".into(), "日本語".repeat(30).as_str().into()].into();
    let report = Report { at: samples::after(60_000), sessions: vec![session], ..Report::default() };
    for width in [None, Some(80_u16)] {
        let kept = CaptureWriter::default();
        let mut table = Table::new(Box::new(kept.clone()), Style { color: false });
        width.into_iter().for_each(|width| table.fit(width));
        table.finish(&report).expect("memory can be written");
        let text = kept.text();
        let (head, row) = text.trim_end().split_once('\n').expect("head and row");
        assert_eq!(row.lines().count(), 1, "{text}");
        let column = |line: &str, word: &str| line.find(word).map(|at| escape::columns(&line[..at]));
        assert_eq!(column(row, "unknown"), column(head, "HEALTH"), "{text}");
        assert!(column(head, "HEALTH") < Some(if width.is_some() { 80 } else { 150 }), "{text}");
    }
    let tree = rendered("tree", &samples::header(), &samples::life(), &report);
    let wide = tree.lines().find(|line| escape::columns(line) > 100);
    assert_eq!(wide, None);
}

#[test]
fn json_lines_are_objects_of_version_1() {
    let (findings, report) = samples::timeline();
    let text = rendered("jsonl", &samples::header(), &findings, &report);
    let kinds: Vec<String> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(value["v"], 1);
            value["type"].as_str().expect("a type").to_owned()
        })
        .collect();
    assert_eq!(kinds.first().map(String::as_str), Some("host"));
    assert_eq!(kinds.last().map(String::as_str), Some("end"));
    for kind in ["session.opened", "session.changed", "session.closed", "loss"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind}");
    }
}

#[test]
fn colours_require_style_option() {
    let kept = CaptureWriter::default();
    let mut sink = (FORMATS[0].open)(Box::new(kept.clone()), Style { color: true });
    for seen in samples::life() {
        sink.change(&seen).expect("memory can be written");
    }
    assert!(kept.text().contains("\x1b[1;36ms-4f9c2a\x1b[0m"));
    assert!(!drawn(&samples::life()).contains('\x1b'));
}
