//! Numbers of the metrics: right for a session of which all is known, bounded whatever is recorded.

use std::{collections::BTreeSet, net::SocketAddr};

use execpath::{
    export::ExportSink,
    metrics::{FAMILIES, Fold},
    model::{BootTime, Change, ExitStatus, Fact, Finding, Kind, SessionId},
    sink::Header,
};
use execpath_tests::samples;

use crate::{
    feed,
    scrape::{get, series},
};

/// Most series of a node.
const MOST: usize = 2_000;

fn metrics(address: SocketAddr) -> String {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[test]
fn one_session_is_counted_with_its_stages() {
    let exporter = feed::exporter();
    let address = exporter.address().expect("a port");
    feed::feed(vec![Box::new(ExportSink::of(&exporter))], &feed::recording("exit-3"));
    let text = metrics(address);
    let all = series(&text);
    assert_eq!(all["execpath_sessions_opened_total{kind=\"exec\"}"], 1.0);
    assert_eq!(all["execpath_sessions_ended_total{kind=\"exec\",outcome=\"failure\"}"], 1.0);
    assert_eq!(all["execpath_sessions_open{kind=\"exec\"}"], 0.0);
    assert_eq!(all["execpath_attempts_total{reached=\"ended\",error=\"none\"}"], 1.0);
    assert_eq!(all["execpath_up"], 1.0);
    for hop in ["connected", "kubelet-accepted", "runc-started", "executed", "total"] {
        assert_eq!(all[&format!("execpath_start_seconds_count{{hop=\"{hop}\"}}")], 1.0, "{hop}");
    }
    // The stages add up to the whole.
    let sum_of = |is_wanted: &dyn Fn(&str) -> bool| -> f64 {
        let sums = all.iter().filter(|(name, _)| name.starts_with("execpath_start_seconds_sum"));
        sums.filter(|(name, _)| is_wanted(name)).map(|(_, value)| value).sum()
    };
    let total = sum_of(&|name| name.contains("total"));
    let stages = sum_of(&|name| !name.contains("total"));
    // Starts of processes have the resolution of a clock tick, 10 ms, so a stage may seem to precede the one before.
    assert!(total > 0.0 && (total - stages).abs() < 0.02, "{total} {stages}");
    let exemplar = text
        .lines()
        .find(|line| line.starts_with("execpath_start_seconds_bucket{le=") && line.contains("session=\"s-"));
    assert!(exemplar.is_some(), "the exemplar is the session: {text}");
}

#[test]
fn series_stay_bounded_under_hostile_recordings() {
    let exporter = feed::exporter();
    let address = exporter.address().expect("a port");
    for path in feed::recordings() {
        feed::feed(vec![Box::new(ExportSink::of(&exporter))], &path);
    }
    // Losses with names that are no token, a new one at each tick.
    feed::feed_with(
        vec![Box::new(ExportSink::of(&exporter))],
        &feed::recording("exit-3"),
        |seen| {
            if seen.fact == Fact::Tick {
                seen.fact = Fact::Lost { what: format!("\"}}\n{}\u{202e}", seen.at.0), count: u64::MAX };
            }
        },
        None,
    );
    let text = metrics(address);
    let all = series(&text);
    assert!((200..=MOST).contains(&all.len()), "{} series", all.len());
    // Nothing of a pod, command or user.
    for word in ["namespace=", "pod=", "command=", "user=", "web", "sleep"] {
        assert!(!text.contains(word), "{word}");
    }
}

/// Ten thousand sessions with every kind, result, gap and name.
#[test]
fn series_stay_bounded_under_many_sessions() {
    let mut fold = Fold::default();
    fold.begin(&Header::default());
    for number in 0..10_000_u64 {
        let mut session = samples::closed(ExitStatus::Code(0));
        session.id = SessionId(format!("s-{number:x}").into());
        session.kind = Kind::ALL[usize::try_from(number % 10).expect("small")];
        for change in [Change::Opened(samples::whole().into()), Change::Closed(session.into())] {
            fold.change(&Finding { at: BootTime(number), change });
        }
        fold.change(&Finding {
            at: BootTime(number),
            change: Change::Loss { what: format!("source-{number}"), count: 1 },
        });
    }
    for family in FAMILIES {
        let most: usize = family.labels.iter().map(|label| label.values.most()).product();
        assert!(fold.series().of(family).count() <= most, "{}", family.name);
    }
    let drained = fold.observed();
    assert!(drained.len() <= 10_000, "{}", drained.len());
}

/// A session that is found again by a later trace of the same process is no new session.
#[test]
fn restarted_trace_counts_sessions_once() {
    let mut fold = Fold::default();
    let open = || Finding { at: samples::OPENED, change: Change::Opened(samples::whole().into()) };
    for _trace in 0..3 {
        fold.begin(&Header::default());
        fold.change(&open());
    }
    let number = |name: &str, labels: &[&str]| {
        let family = FAMILIES.iter().find(|family| family.name == name).expect("a family");
        fold.series().number(family, labels)
    };
    assert_eq!(number("execpath_sessions_opened", &["exec"]), 1.0);
    assert_eq!(number("execpath_sessions_open", &["exec"]), 1.0);
    // The next trace finds nothing: it ended in between, in an unknown way.
    fold.begin(&Header::default());
    fold.evaluate(&execpath::model::Report::default());
    assert_eq!(fold.series().number(&execpath::metrics::table::ENDED, &["exec", "unknown"]), 1.0);
    assert_eq!(fold.series().number(&execpath::metrics::table::OPEN, &["exec"]), 0.0);
}

#[test]
fn endpoint_shows_families_of_the_table_only() {
    let exporter = feed::exporter();
    let address = exporter.address().expect("a port");
    for name in ["exit-3", "waiting", "stopped", "start-failed"] {
        feed::feed(vec![Box::new(ExportSink::of(&exporter))], &feed::recording(name));
    }
    let text = metrics(address);
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let table: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert!(shown.is_subset(&table), "{:?}", shown.difference(&table));
    for needed in ["execpath_verdicts_active", "execpath_session_idle_seconds", "execpath_session_age_seconds"] {
        assert!(shown.contains(needed), "{needed}: {shown:?}");
    }
}
