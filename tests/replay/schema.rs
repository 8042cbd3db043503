//! Printed JSON follows `execpath schema`.

use std::collections::BTreeSet;

use execpath_tests::binary::run;
use jsonschema::Validator;
use serde_json::Value;

use crate::lab::recordings;

fn schema() -> Validator {
    let ran = run(["schema"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let schema: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    jsonschema::draft202012::new(&schema).expect("a schema")
}

fn printed(arguments: &[&str]) -> String {
    let ran = run(arguments);
    assert!(matches!(ran.code, Some(0 | 10)), "{arguments:?}: {}", ran.stderr);
    ran.stdout
}

#[test]
fn printed_json_follows_schema() {
    let schema = schema();
    let mut kinds = BTreeSet::new();
    for (name, path) in recordings() {
        let path = path.to_string_lossy();
        let lists = [
            printed(&["replay", &path, "--kind", "all", "-o", "json"]),
            printed(&["ls", "--from", &path, "--kind", "all", "-o", "json"]),
            printed(&["diagnose", "--from", &path, "-o", "json"]),
        ];
        let lines = printed(&["replay", &path, "--kind", "all", "-o", "jsonl"])
            + &printed(&["ls", "--from", &path, "--kind", "all", "-o", "jsonl"]);
        for text in lists.iter().map(String::as_str).chain(lines.lines()) {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let error = schema.validate(&value).err().map(|error| error.to_string());
            assert_eq!(error, None, "{name}: {value:#}");
            kinds.extend(value["type"].as_str().map(str::to_owned));
        }
    }
    // The output of `doctor` on any host.
    let doctor: Value = serde_json::from_str(&run(["doctor", "-o", "json"]).stdout).expect("JSON");
    assert_eq!(schema.validate(&doctor).err().map(|error| error.to_string()), None, "{doctor:#}");
    for kind in ["host", "session", "session.opened", "session.changed", "session.closed", "end"] {
        assert!(kinds.contains(kind), "{kind} was never printed");
    }
}

#[test]
fn schema_rejects_missing_fields_and_wrong_types() {
    let schema = schema();
    let (_, path) = recordings().into_iter().next().expect("a recording");
    let sessions: Value =
        serde_json::from_str(&printed(&["replay", &path.to_string_lossy(), "-o", "json"])).expect("JSON");
    assert!(schema.is_valid(&sessions));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut sessions = sessions.clone();
        change(&mut sessions[0]);
        schema.is_valid(&sessions)
    };
    assert!(!changed(&|session| *session = 7.into()));
    assert!(!changed(&|session| session["complete"] = "yes".into()));
    assert!(!changed(&|session| drop(session.as_object_mut().expect("an object").remove("hops"))));
    assert!(!changed(&|session| session["hops"][0]["pid"] = Value::Null));
    assert!(changed(&|session| session["new"] = 1.into()), "fields may be added");
}
