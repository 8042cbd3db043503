//! Execs with user-chosen ids are sessions of their own; execs older than the trace may be probes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ran, sessions};

/// Sessions with this exec id, by session id.
fn execs_called(name: &str, exec: &str) -> BTreeMap<String, Value> {
    let mut found = sessions(name, &[]);
    found.retain(|_, session| session["exec_id"] == exec);
    found
}

/// Pids of the processes in containers.
fn processes(sessions: &BTreeMap<String, Value>) -> BTreeSet<u64> {
    let hops = sessions.values().flat_map(|session| session["hops"].as_array().expect("hops"));
    hops.filter(|hop| hop["role"] == "process").map(|hop| hop["pid"].as_u64().expect("a pid")).collect()
}

#[test]
fn equal_exec_id_in_two_containers_gives_two_sessions() {
    let found = execs_called("hostile-ctr-two.jsonl.zst", "sh");
    assert_eq!(processes(&found), BTreeSet::from([19748, 20748]), "{:?}", found.keys());
    let containers: BTreeSet<String> =
        found.values().map(|session| session["target"]["container_id"].to_string()).collect();
    assert_eq!((found.len(), containers.len()), (2, 2));
}

#[test]
fn repeated_exec_id_gives_two_sessions() {
    let found = execs_called("hostile-ctr-again-5s.jsonl.zst", "sh");
    assert_eq!(processes(&found), BTreeSet::from([19748, 20748]), "{:?}", found.keys());
    assert_eq!(found.len(), 2);
    assert!(found.values().all(|session| session["state"] == "closed" && session["exit"]["code"] == 3));
}

#[test]
fn ls_and_trace_give_chosen_exec_id_same_session_id() {
    let name = "hostile-ctr-two.jsonl.zst";
    let traced: BTreeSet<String> = execs_called(name, "sh").into_keys().collect();
    let ran = ran(name, &["ls", "--from", "FILE", "-o", "json"]);
    let listed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let listed: BTreeSet<String> = listed
        .as_array()
        .expect("an array")
        .iter()
        .filter(|session| session["exec_id"] == "sh")
        .map(|session| session["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(!listed.is_empty() && listed.is_subset(&traced), "{listed:?} {traced:?}");
}

#[test]
fn exec_id_like_stream_key_hides_no_session() {
    let all = sessions("hostile-stream-collide.jsonl.zst", &[]);
    let chosen = all.values().find(|session| session["exec_id"] == "stream-31266").expect("the user's exec");
    assert_eq!(chosen["kind"], "local");
    // The stream with cookie 31266: its id is the hash of the boot id with `stream-31266`.
    let stream = all.get("s-42b5a9ccfd").expect("kubectl's session");
    let kubectl = &stream["hops"][0];
    assert_eq!((kubectl["role"].as_str(), kubectl["pid"].as_u64()), (Some("kubectl"), Some(19731)));
}

/// Codes of a session's gaps.
fn gaps(session: &Value) -> Vec<&str> {
    let gaps = session["gaps"].as_array().expect("gaps");
    gaps.iter().map(|gap| gap["code"].as_str().expect("a code")).collect()
}

#[test]
fn older_command_without_input_may_be_probe() {
    let all = sessions("left-open-probe.jsonl.zst", &[]);
    let probe = all.get("s-3a6354d774").expect("the probe that ran when the trace began");
    assert_eq!((probe["kind"].as_str(), probe["stdin"].as_bool()), (Some("exec"), Some(false)));
    assert!(gaps(probe).contains(&"kind-unknown"), "{probe}");
}

#[test]
fn long_running_command_is_not_a_probe() {
    let all = sessions("orphan-ctrd2.jsonl.zst", &[]);
    let orphan = all.get("s-59f09c4a5d").expect("the exec whose kubectl was killed");
    assert_eq!(orphan["command"], serde_json::json!(["sleep", "4324"]));
    assert_eq!((orphan["kind"].as_str(), gaps(orphan)), (Some("exec"), vec!["kind-unknown"]));
    let young = sessions("orphan-ctrd2.jsonl.zst", &["--kind", "probe"]);
    assert_eq!(young.get("s-9475b1e9c9").map(|probe| &probe["state"]), Some(&serde_json::json!("open")));
}
