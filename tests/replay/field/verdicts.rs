//! Verdicts name the right session and process; situations without a fault of their own get no false one.

use serde_json::Value;

use super::ran;

/// JSON output of a command on the recording at this moment, by default at its end.
fn json_of(name: &str, command: &[&str], at: Option<&str>) -> Value {
    let at = at.map_or(Vec::new(), |at| vec!["--at", at]);
    let arguments = [command, &["--from", "FILE", "-o", "json"], &at].concat();
    let ran = ran(name, &arguments);
    assert!(matches!(ran.code, Some(0 | 10)), "{name}: {arguments:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// Faults at this moment: code, session if any, pid.
fn faults(name: &str, at: Option<&str>) -> Vec<(String, Option<String>, Option<u64>)> {
    let all = json_of(name, &["diagnose"], at);
    let faults = all.as_array().expect("an array").iter().filter(|one| one["severity"] == "fault");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    faults.map(|one| (text(&one["code"]).expect("a code"), text(&one["session"]), one["pid"].as_u64())).collect()
}

/// Sessions of every kind at this moment.
fn listed(name: &str, at: Option<&str>) -> Vec<Value> {
    json_of(name, &["ls", "--kind", "all"], at).as_array().expect("an array").clone()
}

fn find<'a>(sessions: &'a [Value], id: &str) -> &'a Value {
    let found = sessions.iter().find(|one| one["id"] == id);
    assert!(found.is_some(), "{id} is not listed: {sessions:#?}");
    found.expect("listed")
}

fn roles(session: &Value) -> Vec<(&str, u64)> {
    let hops = session["hops"].as_array().expect("hops").iter();
    hops.map(|hop| (hop["role"].as_str().expect("a role"), hop["pid"].as_u64().expect("a pid"))).collect()
}

#[test]
fn stopped_kubectl_is_blamed_instead_of_kubelet() {
    const KUBECTL: u64 = 13_569;
    let all = json_of("stopped-client-k136.jsonl.zst", &["diagnose"], None);
    let found: Vec<&Value> =
        all.as_array().expect("an array").iter().filter(|one| one["severity"] == "fault").collect();
    assert_eq!(found.len(), 1, "{all:#}");
    let verdict = found[0];
    assert_eq!((&verdict["code"], &verdict["pid"]), (&"F16".into(), &KUBECTL.into()), "{verdict:#}");
    assert_eq!(verdict["name"], "the client does not read");
    assert_eq!(verdict["session"], "s-56edd430cd");
    assert_eq!(verdict["local"], "192.168.215.1:33552", "kubectl's own end");
    let evidence = verdict["evidence"].to_string();
    assert!(evidence.contains("recv_q of kubectl (pid 13569)") && evidence.contains("7367307"), "{evidence}");
}

#[test]
fn sessions_through_stopped_kubelet_are_never_ok() {
    const NAME: &str = "c01a-kubelet-stopped.jsonl.zst";
    const KUBELET: u64 = 1_029;
    for (at, health) in [("+6s", "unknown"), ("+8s", "unknown"), ("+12s", "F33"), ("+16s", "F33"), ("+24s", "F33")] {
        let sessions = listed(NAME, Some(at));
        for (id, path) in [
            ("s-de65afb507", &["kubectl", "apiserver", "kubelet", "runtime", "shim", "process"][..]),
            ("s-68bfae5caa", &["kubectl", "apiserver", "kubelet"]),
        ] {
            let session = find(&sessions, id);
            let roles = roles(session);
            assert_eq!(roles.iter().map(|(role, _)| *role).collect::<Vec<_>>(), path, "{at}: {session:#}");
            assert_eq!(roles[2].1, KUBELET, "{at}");
            assert_eq!(session["health"], health, "{at}: {session:#}");
            if health == "unknown" {
                assert_eq!(session["health_reason"], "the kubelet (pid 1029) is stopped (state T)", "{at}");
            }
        }
    }
    let named: Vec<_> = faults(NAME, Some("+16s")).into_iter().filter(|(code, ..)| code == "F33").collect();
    assert!(named.len() == 2 && named.iter().all(|(.., pid)| *pid == Some(KUBELET)), "{named:?}");
    // The leg from the API server to the kubelet, which has not accepted it: the link is not exact, and the gap is
    // there.
    let sessions = listed(NAME, Some("+12s"));
    let session = find(&sessions, "s-68bfae5caa");
    let links = session["links"].as_array().expect("links");
    let leg = links.iter().find(|link| link["from"] == 1 && link["to"] == 2).expect("the leg to the kubelet");
    assert_eq!((&leg["kind"], &leg["confidence"]), (&"tcp".into(), &"strong".into()));
    assert_eq!(leg["tcp"]["remote"], "192.168.205.11:10250");
    assert_eq!(session["gaps"][0]["between"], serde_json::json!([1, 2]), "{session:#}");
}

#[test]
fn f25_names_holder_of_pipe_of_same_exec() {
    const NAME: &str = "c11b-f25-wrong-process.jsonl.zst";
    for at in ["+8s", "+9s", "+12s", "+16s", "+20s"] {
        let found = faults(NAME, Some(at));
        let held: Vec<_> = found.iter().filter(|(code, ..)| code == "F25").collect();
        let session = Some("s-e13353a045".to_owned());
        assert_eq!(held, [&("F25".to_owned(), session, Some(3_835))], "{at}: {found:?}");
    }
}

#[test]
fn stopped_shim_is_reported_on_its_session() {
    const NAME: &str = "c13-shim-stopped.jsonl.zst";
    for at in ["+5s", "+8s", "+12s", "+15s"] {
        let session = Some("s-b23b18d6bd".to_owned());
        assert_eq!(faults(NAME, Some(at)), [("F09".to_owned(), session, Some(2_579))], "{at}");
        let sessions = listed(NAME, Some(at));
        let session = find(&sessions, "s-b23b18d6bd");
        assert_eq!((&session["health"], &session["target"]["pod"]), (&"F09".into(), &"own-net".into()), "{at}");
    }
}

#[test]
fn port_forward_always_starts_at_kubectl() {
    const NAME: &str = "c06b-pf-hol.jsonl.zst";
    for at in ["+6s", "+8s", "+12s", "+16s", "+20s"] {
        let sessions = listed(NAME, Some(at));
        let forwards: Vec<&Value> = sessions.iter().filter(|one| one["kind"] == "port-forward").collect();
        assert_eq!(forwards.len(), 1, "{at}: {sessions:#?}");
        let forward = forwards[0];
        assert_eq!(
            roles(forward),
            [("kubectl", 10_879), ("apiserver", 3_269), ("kubelet", 29_802), ("runtime", 31_856)],
            "{at}"
        );
        assert_ne!(forward["health"], "ok", "{at}: a stuck forward without two samples is not healthy");
    }
}

/// Sessions with a problem that has no fault code yet: the gap is reported, no process is blamed, and the health is not
/// ok.
#[test]
fn unclassified_problem_has_unknown_health() {
    for (name, id, moments) in [
        // Once two samples show that the kubelet's connections are silent, F34 names it.
        ("c02-kubelet-waits-for-webhook.jsonl.zst", "s-e24fc61214", &["+5s", "+20s"][..]),
        ("c05b-stream-drop.jsonl.zst", "s-70ed0d8b70", &["+5s", "+10s"]),
    ] {
        for at in moments {
            let sessions = listed(name, Some(at));
            let session = find(&sessions, id);
            assert_eq!(session["health"], "unknown", "{name} {at}");
            let reason = session["health_reason"].as_str().expect("a reason");
            assert!(reason.starts_with("the command's process is not known"), "{name} {at}: {reason}");
            let own: Vec<_> = faults(name, Some(at)).into_iter().filter(|one| one.1.as_deref() == Some(id)).collect();
            assert_eq!(own, [], "{name} {at}");
        }
    }
}

#[test]
fn kubelet_without_answer_of_apiserver_is_named() {
    let session = Some("s-e24fc61214".to_owned());
    let found = faults("c02-kubelet-waits-for-webhook.jsonl.zst", Some("+10s"));
    let named: Vec<_> = found.iter().filter(|(code, ..)| code == "F34").collect();
    assert!(named.len() == 1 && named[0].1 == session, "{found:?}");
}

/// Requests that were refused or never started: they give no session, and other sessions get no fault from them.
#[test]
fn refused_requests_cause_no_fault() {
    for name in [
        "c04b-kubelet-forbids.jsonl.zst",
        "c05a-stream-reject.jsonl.zst",
        "c06-pf-nobody-listens.jsonl.zst",
        "c14-credential-plugin.jsonl.zst",
    ] {
        for at in [Some("+3s"), Some("+6s"), Some("+10s"), None] {
            assert_eq!(faults(name, at), [], "{name} {at:?}");
        }
    }
}

#[test]
fn rejected_stream_port_is_named() {
    const NAME: &str = "c05c-stream-rejected-dials.jsonl.zst";
    const KUBELET: u64 = 14_279;
    let expected = ("F38".to_owned(), Some("s-7b28665c77".to_owned()), Some(KUBELET));
    assert_eq!(faults(NAME, None), [expected]);
    let session = super::sessions(NAME, &[]).remove("s-7b28665c77").expect("the session of that kubectl");
    let attempt = &session["attempt"];
    assert_eq!((&attempt["reached"], &attempt["failed_at"]), (&"kubelet-accepted".into(), &"stream-dialled".into()));
    assert_eq!(session["client"]["exit"]["code"], 1, "{session:#}");
}

#[test]
fn command_left_by_relay_is_not_a_success() {
    const NAME: &str = "c10b-idle-lb-fin.jsonl.zst";
    let session = super::sessions(NAME, &[]).into_values().find(|one| one["command"].to_string().contains("exit 5"));
    let session = session.expect("the session of the idle connection");
    assert_eq!(session["state"], "closed", "{session:#}");
    let gaps = session["gaps"].to_string();
    assert!(gaps.contains("process-left-running"), "{gaps}");
    assert_ne!(session["exit"]["code"], 0, "kubectl's 0 is not the command's: {session:#}");
}

#[test]
fn stopped_hop_prevents_health_ok() {
    for name in [
        "stopped-client-k136.jsonl.zst",
        "c01a-kubelet-stopped.jsonl.zst",
        "c02-kubelet-waits-for-webhook.jsonl.zst",
        "c13-shim-stopped.jsonl.zst",
    ] {
        for at in ["+3s", "+6s", "+9s", "+12s", "+15s", "+18s", "+24s", "+28s"] {
            for session in listed(name, Some(at)) {
                let is_stopped = |hop: &Value| matches!(hop["state"].as_str(), Some("T" | "D"));
                let is_held_up = session["hops"].as_array().expect("hops").iter().any(is_stopped);
                let health = session["health"].as_str().expect("a word");
                assert!(!(is_held_up && matches!(health, "ok" | "waiting")), "{name} {at}: {session:#}");
                assert_eq!(health == "unknown", session["health_reason"].is_string(), "{name} {at}: {session:#}");
            }
        }
    }
}
