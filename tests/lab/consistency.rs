//! Checks that `ls`, `show`, `diagnose` and a simultaneous trace report the same sessions. `watch` shows the sessions
//! of a trace.

use std::collections::{BTreeMap, BTreeSet};

use execpath_tests::binary;
use serde_json::Value;

use crate::faults::{diagnose, list};

/// Properties of a session that must be equal: kind, roles with pids, the runtime's id of the exec, completeness of the path.
type Row = (String, Vec<(String, u64)>, Option<String>, bool);

fn row(session: &Value) -> Row {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let hops = session["hops"].as_array().expect("hops").iter();
    let hops = hops.map(|hop| (text(&hop["role"]), hop["pid"].as_u64().expect("a pid"))).collect();
    let exec = session["exec_id"].as_str().map(str::to_owned);
    (text(&session["kind"]), hops, exec, session["complete"] == true)
}

fn rows<'a>(sessions: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, Row> {
    sessions.into_iter().map(|one| (one["id"].as_str().expect("an id").to_owned(), row(one))).collect()
}

/// Open sessions as seen by a trace started now.
fn traced() -> BTreeMap<String, Row> {
    let arguments = ["trace", "--kind", "all", "-o", "jsonl", "--duration", "3s"];
    let output = binary::command().args(arguments).output().expect("execpath starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut open = BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let Some(id) = line["session"]["id"].as_str() else { continue };
        if line["type"] == "session.closed" {
            open.remove(id);
        } else {
            open.insert(id.to_owned(), row(&line["session"]));
        }
    }
    open
}

/// Compares the four commands now. Only sessions that `ls` shows identically before and after count: they did not
/// change meanwhile.
pub(crate) fn check_now() {
    let before = rows(&list());
    let traced = traced();
    let judged =
        || diagnose(&["diagnose"]).1.into_iter().filter_map(|verdict| Some(verdict["session"].as_str()?.to_owned()));
    let found: BTreeSet<String> = judged().collect();
    let shown = |id: &str| {
        let output = binary::command().args(["show", id, "-o", "json"]).output().expect("execpath starts");
        let shown: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        shown.first().map(row)
    };
    let shown: BTreeMap<String, Option<Row>> = before.keys().map(|id| (id.clone(), shown(id))).collect();
    let after = rows(&list());
    let still: BTreeMap<String, Row> = before.into_iter().filter(|(id, row)| after.get(id) == Some(row)).collect();
    for (id, row) in &still {
        assert_eq!(shown[id].as_ref(), Some(row), "`show` and `ls` of {id}");
        assert_eq!(traced.get(id), Some(row), "a trace and `ls` of {id}");
    }
    // A session that `diagnose` judges before and after the other commands ran existed for them, too.
    for id in judged().filter(|id| found.contains(id)) {
        assert!(after.contains_key(&id) || traced.contains_key(&id), "{id} is known to `diagnose` alone: {after:#?}");
    }
}
