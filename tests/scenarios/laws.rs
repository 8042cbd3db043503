//! Laws: facts in another order within the window, repeated, or among other sessions give the same sessions. Fewer
//! facts give fewer links, never others.

use std::collections::{BTreeMap, BTreeSet};

use execpath::{
    diagnose::verdicts,
    model::{
        BootTime, Confidence, Fact, GapCode, Observation, Report, Session, Severity, SocketId, Source, Span, TaskKey,
    },
};
use execpath_tests::scenario::{render, render_session, short_id};

use crate::run::{correlator, outcome, read, texts};

/// Longest delay of a fact: shorter than the correlator's window.
const SHUFFLE: Span = Span::from_millis(4);

/// Small, repeatable random numbers (xorshift).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Another order of arrival: each fact arrives up to [`SHUFFLE`] after its time. Facts of one moment keep their order,
/// and ticks arrive last.
pub(crate) fn shuffled(facts: &[Observation], rng: &mut Rng) -> Vec<Observation> {
    let mut delays = BTreeMap::new();
    let mut arriving: Vec<(BootTime, usize)> = facts
        .iter()
        .enumerate()
        .map(|(index, fact)| {
            let delay = *delays.entry(fact.at).or_insert_with(|| rng.below(SHUFFLE.0));
            (fact.at.plus(Span(if fact.fact == Fact::Tick { SHUFFLE.0 } else { delay })), index)
        })
        .collect();
    arriving.sort();
    arriving.into_iter().map(|(_, index)| facts[index].clone()).collect()
}

#[test]
fn order_within_window_changes_nothing() {
    for (name, text) in texts() {
        let facts = read(&name, &text, 0).facts();
        let expected = outcome(&facts);
        for seed in 1..40 {
            let seen = outcome(&shuffled(&facts, &mut Rng(seed)));
            assert_eq!(render(&seen, 0), render(&expected, 0), "{name}, order {seed}");
            assert_eq!(seen.sessions, expected.sessions, "{name}, order {seed}");
        }
    }
}

#[test]
fn repeated_facts_change_nothing() {
    for (name, text) in texts() {
        let facts = read(&name, &text, 0).facts();
        let twice: Vec<_> = facts.iter().flat_map(|fact| [fact.clone(), fact.clone()]).collect();
        assert_eq!(render(&outcome(&twice), 0), render(&outcome(&facts), 0), "{name}");
    }
}

/// Facts of both scenarios in order of time.
fn merged(a: &[Observation], b: &[Observation]) -> Vec<Observation> {
    let mut all: Vec<_> = a.iter().chain(b).cloned().collect();
    all.sort_by_key(|fact| fact.at);
    all
}

/// True if a fact affects all sessions: a loss, or the passing of time beyond the other scenario's end.
fn concerns_all(facts: &[Observation]) -> bool {
    facts.iter().any(|fact| matches!(fact.fact, Fact::Lost { .. } | Fact::AuditSkipped { .. } | Fact::Tick))
}

fn verifies(facts: &[Observation]) -> bool {
    facts.iter().any(|fact| matches!(fact.fact, Fact::ListeningUnix { listener: Some(_), .. }))
}

fn lines(report: &Report, cluster: u32, of: u32) -> BTreeSet<String> {
    let own = |session: &&Session| session.hops.iter().all(|hop| hop.task.tgid / 100_000 == of);
    report.sessions.iter().filter(own).map(|session| render_session(session, cluster)).collect()
}

#[test]
fn other_scenarios_change_nothing() {
    let texts = texts();
    for (name, text) in &texts {
        let facts = read(name, text, 0).facts();
        for (other, text) in &texts {
            let strangers = read(other, text, 1).facts();
            // All snapshots of one host either verify listeners or do not.
            if concerns_all(&facts) || concerns_all(&strangers) || verifies(&facts) != verifies(&strangers) {
                continue;
            }
            let seen = outcome(&merged(&facts, &strangers));
            assert_eq!(lines(&seen, 0, 0), lines(&outcome(&facts), 0, 0), "{name} with {other}");
            assert_eq!(lines(&seen, 1, 1), lines(&outcome(&strangers), 1, 1), "{other} with {name}");
        }
    }
}

/// A link identified by its ends, independent of hop numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LinkKey {
    exec: Option<String>,
    tasks: (TaskKey, TaskKey),
    kind: &'static str,
    /// Near and far end, or inbound and outbound.
    sockets: Vec<Option<SocketId>>,
}

/// Every link, except those over a gap for an unknown hop.
fn links(report: &Report) -> BTreeSet<LinkKey> {
    let of = |session: &Session| {
        let link = |link: &execpath::model::Link| {
            let tcp = link.tcp.map(|ends| vec![ends.near, ends.far]);
            let relay = link.relay.map(|(inbound, outbound)| vec![Some(inbound), Some(outbound)]);
            LinkKey {
                exec: session.exec_id.as_deref().map(str::to_owned),
                tasks: (session.hops[link.from].task, session.hops[link.to].task),
                kind: link.kind.token(),
                sockets: tcp.or(relay).unwrap_or_default(),
            }
        };
        let over_gap = |link: &&execpath::model::Link| {
            session.gaps.iter().any(|gap| gap.code == GapCode::ShimUnknown && gap.between == Some((link.from, link.to)))
        };
        // Skip links between namespaces suggested by addresses alone: sequence numbers may refute them.
        let suggested = |link: &&execpath::model::Link| link.tcp.is_some() && link.confidence != Confidence::Exact;
        session.links.iter().filter(|link| !over_gap(link) && !suggested(link)).map(link).collect::<Vec<_>>()
    };
    report.sessions.iter().flat_map(of).collect()
}

#[test]
fn missing_facts_give_no_other_links() {
    for (name, text) in texts() {
        let scenario = read(&name, &text, 0);
        // The dropped fact may be the one that contradicts a link: with two candidates, one alone may look exact.
        if scenario.checkpoints.iter().any(|checkpoint| checkpoint.expected.contains("ambiguous")) {
            continue;
        }
        let facts = scenario.facts();
        let all = links(&outcome(&facts));
        // An attempt whose failed rung is not certain is left out with all its links. The dropped fact may be the one that
        // made it uncertain.
        if name.starts_with("attempt-") && all.is_empty() {
            continue;
        }
        let check = |left: &[Observation], what: &str| {
            let seen = links(&outcome(left));
            // A stream without its exec's FIFOs is a session of its own: its links are those of the exec.
            let is_known = |one: &&LinkKey| {
                let same = |other: &LinkKey| LinkKey { exec: None, ..other.clone() } == **one;
                // Without the accept, the leg leads to the listener: the process that accepted it, or the link is
                // wrong.
                let listens = |other: &LinkKey| {
                    (other.kind, other.tasks, other.sockets.first()) == (one.kind, one.tasks, one.sockets.first())
                };
                let is_unaccepted = one.kind == "tcp" && one.sockets.last() == Some(&None);
                all.contains(*one)
                    || (one.exec.is_none() && all.iter().any(same))
                    || (is_unaccepted && all.iter().any(listens))
            };
            let others: Vec<_> = seen.iter().filter(|one| !is_known(one)).collect();
            assert!(others.is_empty(), "{name} without {what}: {others:?}");
        };
        // Losses stay, because every loss is reported. Port-forward arguments stay: they exclude local clients of that
        // process.
        let forwards = |fact: &Fact| {
            let Fact::ProcessSeen(process) = fact else { return false };
            process.argv.iter().any(|word| word.as_str() == Some("port-forward"))
        };
        let may_go = |fact: &Observation| !matches!(fact.fact, Fact::Lost { .. }) && !forwards(&fact.fact);
        for index in (0..facts.len()).filter(|index| may_go(&facts[*index])) {
            let mut left = facts.clone();
            let gone = left.remove(index);
            check(&left, &format!("{gone:?}"));
        }
        let mut rng = Rng(7);
        for round in 0..200 {
            let left: Vec<_> = facts.iter().filter(|fact| !may_go(fact) || rng.below(4) != 0).cloned().collect();
            check(&left, &format!("a quarter, round {round}"));
        }
    }
}

/// The user of each session that has one, by the session's name.
fn users(report: &Report) -> BTreeMap<String, String> {
    let of = |session: &Session| {
        let user = &session.client.user.as_ref()?.user;
        let name = session.exec_id.as_deref().map_or_else(|| session.id.0.to_string(), short_id);
        Some((name, format!("{} as {:?}", user.name, user.impersonated)))
    };
    report.sessions.iter().filter_map(of).collect()
}

/// The true user of each session: in a scenario, request `a1` belongs to `e1`. Sessions without exec id keep the user
/// found with all facts.
fn truth(facts: &[Observation]) -> BTreeMap<String, String> {
    let mut truth = users(&outcome(facts));
    truth.retain(|session, _| session.starts_with("s-"));
    for seen in facts {
        if let Fact::Audited(event) = &seen.fact
            && let Some(number) = event.id.strip_prefix('a').and_then(|id| id.split('-').next())
        {
            let user = format!("{} as {:?}", event.user.name, event.user.impersonated);
            truth.entry(format!("e{number}")).or_insert(user);
        }
    }
    truth
}

/// Users that differ from the true ones.
fn wrong(left: &[Observation], truth: &BTreeMap<String, String>) -> Vec<(String, String)> {
    // The true user of a part without a known exec is unknown here.
    let is_known = |session: &str| !session.starts_with("s-") || truth.contains_key(session);
    let others = |(session, user): &(String, String)| is_known(session) && truth.get(session) != Some(user);
    users(&outcome(left)).into_iter().filter(others).collect()
}

#[test]
fn missing_audit_lines_give_no_other_users() {
    let mut named = 0;
    for (name, text) in texts() {
        let facts = read(&name, &text, 0).facts();
        let lines: Vec<usize> = (0..facts.len()).filter(|at| matches!(facts[*at].fact, Fact::Audited(_))).collect();
        let truth = truth(&facts);
        named += users(&outcome(&facts)).len();
        for some in 0..1_u32 << lines.len() {
            let is_left = |at: &usize| lines.iter().position(|line| line == at).is_none_or(|bit| some >> bit & 1 == 1);
            let left: Vec<_> = (0..facts.len()).filter(is_left).map(|at| facts[at].clone()).collect();
            // Only the last line of a refused attempt shows the refusal.
            let refused = |seen: &Observation| matches!(&seen.fact, Fact::Audited(event) if event.code >= Some(400));
            if facts.iter().filter(|seen| refused(seen)).count() == left.iter().filter(|seen| refused(seen)).count() {
                assert_eq!(wrong(&left, &truth), [], "{name}, lines {some:b}");
            }
        }
    }
    assert!(named >= 10, "only {named} users in all scenarios");
}

#[test]
fn missing_facts_give_no_other_users() {
    for (name, text) in texts() {
        let facts = read(&name, &text, 0).facts();
        let truth = truth(&facts);
        // Skip scenarios with a missing request: once its session is lost, too, nothing shows that another request
        // existed.
        let names = outcome(&facts).sessions.into_iter().filter_map(|session| session.exec_id);
        if names.map(|id| short_id(&id)).any(|name| !truth.contains_key(&name)) {
            continue;
        }
        let may_go = |seen: &Observation| !matches!(seen.fact, Fact::Lost { .. } | Fact::Audited(_));
        for at in (0..facts.len()).filter(|at| may_go(&facts[*at])) {
            let mut left = facts.clone();
            let gone = left.remove(at);
            assert_eq!(wrong(&left, &truth), [], "{name} without {gone:?}");
        }
        let mut rng = Rng(11);
        for round in 0..200 {
            let left: Vec<_> = facts.iter().filter(|fact| !may_go(fact) || rng.below(4) != 0).cloned().collect();
            assert_eq!(wrong(&left, &truth), [], "{name}, a quarter, round {round}");
        }
    }
}

/// Scenarios have no samples; time goes on for longer than any rule waits.
#[test]
fn only_scenarios_of_faults_name_them() {
    for (name, text) in texts() {
        let mut correlator = correlator();
        let facts = read(&name, &text, 0).facts();
        let last = facts.iter().map(|fact| fact.at).max().unwrap_or_default();
        for fact in &facts {
            correlator.ingest(fact.clone());
        }
        for seconds in [1, 30, 90] {
            correlator.ingest(Observation::new(last.plus(Span::from_secs(seconds)), Source::Engine, Fact::Tick));
            let found = verdicts(&correlator.report());
            let faults = found.iter().filter(|verdict| verdict.severity == Severity::Fault);
            let codes: Vec<_> = faults.map(|verdict| verdict.code).collect();
            let expected: &[&str] = match name.as_str() {
                "daemon-restarts.txt" | "daemon-ends-shell.txt" => &["F30"],
                // kubectl reported success, and the command runs on.
                "daemon-ends-later.txt" => &["F44"],
                "attempt-refused-early.txt" => &["F36"],
                "attempt-connect-refused.txt" | "attempt-connect-waits.txt" | "attempt-unconnected.txt" => &["F45"],
                "start-refused.txt" | "start-failed-late.txt" => &["F41"],
                "start-not-permitted.txt" => &["F46"],
                "killed-by-memory.txt" | "killed-by-process.txt" => &["F42"],
                "attempt-kubelet-refuses.txt" => &["F37"],
                "port-forward-refused.txt" | "forward-after-exec.txt" => &["F39"],
                "attempt-stream-refused.txt" | "attempt-stream-dropped.txt" => &["F38"],
                _ => &[],
            };
            assert_eq!(codes, expected, "{name}");
        }
    }
}
