//! The user of a session: compares the API server's audit log with the user that started each kubectl.

use std::collections::BTreeMap;

use crate::{
    env::lab,
    kubectl::{Exec, Kubectl, mark},
    reported::ReportedSession,
    tracer::{Trace, Tracer, sessions},
};

const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Group in the users' certificates.
const GROUP: &str = "lab-users";
/// Number of simultaneous sessions.
const RUNS: usize = 20;

fn tracer() -> Tracer {
    Tracer::start(&["--audit-log", lab().audit_log.to_str().expect("text")])
}

fn user(session: &ReportedSession) -> Option<&str> {
    session.text("/client/user")
}

/// Starts one kubectl per command, with the users in turn. Returns the user of each kubectl by its pid.
fn start(commands: &[String]) -> (Vec<Kubectl>, BTreeMap<u32, &'static str>) {
    let start = |(command, user): (&String, &&'static str)| {
        let kubectl = Exec { user, ..Exec::sh(command) }.start();
        let pid = kubectl.pid();
        (kubectl, (pid, *user))
    };
    commands.iter().zip(USERS.iter().cycle()).map(start).unzip()
}

fn end(running: Vec<Kubectl>) {
    for kubectl in running {
        let ended = kubectl.end();
        assert!(ended.status.success(), "{ended:?}");
    }
}

/// Checks that no line gives a session the user of another one.
fn is_never_anothers(trace: &Trace, truth: &BTreeMap<u32, &str>) {
    for session in trace.lines.iter().filter_map(|line| ReportedSession::of(&line.value)) {
        let own = session.pid("kubectl").and_then(|pid| truth.get(&pid).copied());
        let Some(own) = own else { continue };
        assert!(user(&session).is_none_or(|named| named == own), "{own}'s: {session:?}");
    }
}

#[test]
fn twenty_sessions_of_three_users_get_own_user() {
    let mut tracer = tracer();
    let marks: Vec<String> = (0..RUNS).map(|_| mark()).collect();
    let commands: Vec<String> = marks.iter().map(|mark| format!("echo {mark}; sleep 2")).collect();
    let (running, truth) = start(&commands);
    for (mark, kubectl) in marks.iter().zip(&running) {
        let session = tracer.wait_for(mark, "has a user", |session| user(session).is_some());
        assert_eq!(user(&session), truth.get(&kubectl.pid()).copied(), "{session:?}");
        assert_eq!(session.pid("kubectl"), Some(kubectl.pid()), "{session:?}");
        assert_eq!(session.text("/client/confidence"), Some("exact"), "{session:?}");
        let groups = session.0["client"]["groups"].as_array().expect("groups");
        assert!(groups.iter().any(|group| group == GROUP), "{session:?}");
        assert!(session.text("/client/audit_id").is_some_and(|id| id.len() >= 32), "{session:?}");
        assert!(session.text("/client/user_agent").is_some_and(|agent| agent.starts_with("kubectl")), "{session:?}");
        assert_eq!(session.0["client"]["impersonated_user"], serde_json::Value::Null, "{session:?}");
    }
    end(running);
    for mark in &marks {
        let session = tracer.wait_for(mark, "is closed", ReportedSession::is_closed);
        assert!(user(&session).is_some(), "a session loses its user: {session:?}");
    }
    let trace = tracer.finish();
    is_never_anothers(&trace, &truth);
    trace.holds_only(&marks);
}

#[test]
fn equal_commands_get_own_user_or_none() {
    let mut tracer = tracer();
    let mark = mark();
    let (running, truth) = start(&vec![format!("echo {mark}; sleep 2"); RUNS]);
    end(running);
    tracer.wait("all are closed", |lines| {
        let marked = sessions(lines).into_values().filter(|session| session.has(&mark) && session.is_closed()).count();
        (marked == RUNS).then_some(())
    });
    let trace = tracer.finish();
    is_never_anothers(&trace, &truth);
    trace.lost_nothing();
    let named = trace.sessions().iter().filter(|session| session.has(&mark) && user(session).is_some()).count();
    eprintln!("{named} of {RUNS} equal commands have a user");
}

#[test]
fn repeated_command_gets_own_user_each_time() {
    let mut tracer = tracer();
    let mark = mark();
    let mut truth = BTreeMap::new();
    for user in USERS {
        let kubectl = Exec { user, ..Exec::sh(&format!("echo {mark}; sleep 1")) }.start();
        let pid = kubectl.pid();
        truth.insert(pid, user);
        end(vec![kubectl]);
        let session = tracer.wait("its session is closed", |lines| {
            sessions(lines).into_values().find(|session| session.pid("kubectl") == Some(pid) && session.is_closed())
        });
        assert_eq!(session.text("/client/user"), Some(user), "{session:?}");
    }
    is_never_anothers(&tracer.finish(), &truth);
}

#[test]
fn older_sessions_get_users_from_end_of_log() {
    let marks: Vec<String> = (0..USERS.len()).map(|_| mark()).collect();
    let commands: Vec<String> =
        marks.iter().map(|mark| format!("while sleep 0.2; do echo {mark}; done & sleep 20; kill $!")).collect();
    let (running, truth) = start(&commands);
    // The sessions have begun once their processes run.
    for mark in &marks {
        crate::env::wait_until("the command runs", || {
            let all = crate::env::output(std::process::Command::new("ps").args(["-e", "-w", "-w", "-o", "args="]));
            (all.lines().filter(|line| line.contains(mark.as_str())).count() >= 2).then_some(())
        });
    }
    let mut tracer = tracer();
    for (pid, own) in &truth {
        let session = tracer.wait("an older session has its user", |lines| {
            sessions(lines)
                .into_values()
                .find(|session| session.pid("kubectl") == Some(*pid) && user(session).is_some())
        });
        assert_eq!(user(&session), Some(*own), "{session:?}");
        assert_eq!(session.0["preexisting"], true, "{session:?}");
    }
    is_never_anothers(&tracer.finish(), &truth);
    end(running);
}

#[test]
fn impersonation_reports_both_users() {
    let mut tracer = tracer();
    let mark = mark();
    let globals = ["--as", "bob", "--as-group", GROUP].map(str::to_owned).into();
    let kubectl = Exec { globals, ..Exec::sh(&format!("echo {mark}; sleep 2")) }.start();
    let session = tracer.wait_for(&mark, "has a user", |session| user(session).is_some());
    assert_eq!(user(&session), Some("admin"), "{session:?}");
    assert_eq!(session.text("/client/impersonated_user"), Some("bob"), "{session:?}");
    end(vec![kubectl]);
    tracer.finish();
}

#[test]
fn redacted_commands_match_audit_log() {
    let mut tracer =
        Tracer::start(&["--audit-log", lab().audit_log.to_str().expect("text"), "--redact", "secret-[0-9]+"]);
    let mark = mark();
    let secret = format!("secret-{}", std::process::id());
    let kubectl = Exec { user: "carol", ..Exec::sh(&format!(": {secret}; echo {mark}; sleep 2")) }.start();
    let session = tracer.wait_for(&mark, "has a user", |session| user(session).is_some());
    assert_eq!(user(&session), Some("carol"), "{session:?}");
    end(vec![kubectl]);
    let trace = tracer.finish();
    assert!(trace.lines.iter().all(|line| !line.text.contains(&secret)), "no line contains the secret");
    assert!(!trace.recording().contains(&secret), "the recording contains no secret");
}

#[test]
fn client_is_reported_with_its_ancestors() {
    let mut tracer = Tracer::start(&[]);
    let mark = mark();
    let kubectl = Exec::sh(&format!("echo {mark}; sleep 2")).start();
    let session = tracer.wait_for(&mark, "has parents", |session| session.0["client"]["parents"].is_array());
    let parents = session.0["client"]["parents"].as_array().expect("parents");
    assert_eq!(parents.first().map(|above| above["pid"].clone()), Some(std::process::id().into()), "{session:?}");
    assert_eq!(session.text("/client/uid_name"), Some("root"), "{session:?}");
    end(vec![kubectl]);
    tracer.finish();
}
