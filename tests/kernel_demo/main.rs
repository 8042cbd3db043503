//! `execpath demo` with a real trace: needs root and a kernel that accepts probes.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Stdio,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use execpath_tests::binary::{Ran, command, finish};
use serde_json::Value;

/// Runs one demo at a time: leftovers are searched on the whole machine.
static ALONE: Mutex<()> = Mutex::new(());
/// Time until everything is gone after a demo was killed.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// Time limit of a demo. A demo ends with its session; emulated machines need more than the default.
const LIMIT: &str = "120s";

/// Names of the demo's processes.
const PROCESS_NAMES: [&str; 7] =
    ["demo-stage", "demo-kubectl", "demo-apiserver", "demo-kubelet", "demo-containerd", "demo-shim", "demo-runc"];

/// Leftover processes and folders of demos.
fn left() -> Vec<String> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries(&std::env::temp_dir()).map(|entry| entry.file_name().to_string_lossy().into_owned());
    let processes = entries(Path::new("/proc")).filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let name = line.split(|byte| *byte == 0).next()?;
        Some(
            String::from_utf8_lossy(Path::new(std::str::from_utf8(name).ok()?).file_name()?.as_encoded_bytes())
                .into_owned(),
        )
    });
    folders
        .filter(|name| name.starts_with("execpath-demo-"))
        .chain(processes.filter(|name| PROCESS_NAMES.contains(&name.as_str())))
        .collect()
}

/// Network namespaces of all processes.
fn namespaces() -> BTreeSet<String> {
    let links = fs::read_dir("/proc").expect("/proc").flatten();
    let of_processes = links.filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok());
    of_processes.map(|path| path.to_string_lossy().into_owned()).collect()
}

fn demo(words: &[&str]) -> Ran {
    let ran = finish(command().args(["demo", "--limit", LIMIT, "-o", "jsonl"]).args(words));
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, ran.stdout);
    assert_eq!(left(), Vec::<String>::new());
    ran
}

/// The only session, in its closed state.
fn session(ran: &Ran) -> Value {
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids: BTreeSet<&str> = lines.iter().filter_map(|line| line["session"]["id"].as_str()).collect();
    assert_eq!(ids.len(), 1, "exactly one session: {}", ran.stdout);
    let closed = lines.iter().find(|line| line["type"] == "session.closed").expect("a closed session");
    closed["session"].clone()
}

/// Checks properties common to every demo.
fn check(session: &Value) {
    assert_eq!(session["complete"], true, "{session:#}");
    assert_eq!(session["confidence"], "weak", "{session:#}");
    assert_eq!(session["gaps"], serde_json::json!([]), "{session:#}");
    let target = &session["target"];
    assert_eq!(
        (&target["namespace"], &target["pod"], &target["container"]),
        (&"demo".into(), &"miniature".into(), &"web".into())
    );
    let hops = session["hops"].as_array().expect("hops");
    let comms: Vec<(&str, &str)> =
        hops.iter().filter_map(|hop| Some((hop["role"].as_str()?, hop["comm"].as_str()?))).collect();
    let names: Vec<(&str, &str)> = comms.iter().filter(|(role, _)| *role != "process").copied().collect();
    assert_eq!(
        names,
        [
            ("kubectl", "demo-kubectl"),
            ("apiserver", "demo-apiserver"),
            ("kubelet", "demo-kubelet"),
            ("runtime", "demo-containerd"),
            ("shim", "demo-shim"),
            ("runc", "demo-runc"),
        ]
    );
    assert_eq!(comms.last().map(|(role, _)| *role), Some("process"));
    let pids: BTreeSet<u64> = hops.iter().filter_map(|hop| hop["pid"].as_u64()).collect();
    assert_eq!(pids.len(), hops.len(), "each is a process of its own");
    let netns: BTreeSet<u64> = hops.iter().filter_map(|hop| hop["netns"].as_u64()).collect();
    assert_eq!(netns.len(), 1, "all in one network namespace");
    for link in session["links"].as_array().expect("links") {
        let evidence = &link["evidence"][0];
        match link["kind"].as_str().expect("a kind") {
            "relay" => assert_eq!((&link["confidence"], evidence), (&"strong".into(), &"thread".into())),
            "fifo" => assert_eq!(&link["confidence"], &"weak"),
            _ => assert_eq!(link["confidence"], "exact", "{link}"),
        }
    }
}

#[test]
fn demo_traces_complete_session() {
    let _alone = ALONE.lock();
    let session = session(&demo(&[]));
    check(&session);
    assert_eq!(session["command"], serde_json::json!(["sh", "-c", "echo hello from the container; sleep 1"]));
    assert_eq!(session["exit"]["code"], 0);
    assert_ne!(
        fs::read_link("/proc/self/ns/net").expect("a namespace").to_string_lossy(),
        format!("net:[{}]", session["hops"][0]["netns"])
    );
}

#[test]
fn demo_runs_given_command() {
    let _alone = ALONE.lock();
    let session = session(&demo(&["--", "sh", "-c", "exit 7"]));
    check(&session);
    assert_eq!(session["command"], serde_json::json!(["sh", "-c", "exit 7"]));
    assert_eq!(session["exit"], serde_json::json!({"code": 7, "signal": null, "reason": "exited"}));
}

#[test]
fn demo_reports_failed_start() {
    let _alone = ALONE.lock();
    let session = session(&demo(&["--", "/no/such/program"]));
    assert_eq!(
        (&session["complete"], &session["exit"]["reason"]),
        (&true.into(), &"start-failed".into()),
        "{session:#}"
    );
}

/// The processes report the same pids as the tracer.
#[test]
fn demo_reports_real_pids() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("printed");
    let script = format!(
        "echo $$ $PPID > {0}.new; mv {0}.new {0}; sleep 0.3; cut -d' ' -f4 /proc/$$/stat >> {0}",
        file.display()
    );
    let session = session(&demo(&["--", "sh", "-c", &script]));
    let printed = fs::read_to_string(file).expect("the command writes the file");
    let printed: Vec<u64> = printed.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let pid = |role: &str| {
        session["hops"].as_array().and_then(|hops| hops.iter().find(|hop| hop["role"] == role)?["pid"].as_u64())
    };
    assert_eq!(printed.len(), 3, "{printed:?}");
    let (own, first_parent, later_parent) = (printed[0], printed[1], printed[2]);
    assert_eq!(Some(own), pid("process"));
    assert!([pid("runc"), pid("shim")].contains(&Some(first_parent)));
    assert_eq!(Some(later_parent), pid("shim"), "runc has gone by then");
}

#[test]
fn demo_runs_twenty_times() {
    let _alone = ALONE.lock();
    for _ in 0..20 {
        let session = session(&demo(&["--", "true"]));
        check(&session);
        assert!(
            !namespaces().contains(&format!("net:[{}]", session["hops"][0]["netns"])),
            "the demo's namespace is gone"
        );
    }
}

/// Nothing stays after Ctrl-C or SIGKILL, early or late.
#[test]
fn killed_demo_leaves_nothing_behind() {
    let _alone = ALONE.lock();
    for signal in ["INT", "KILL"] {
        for after in [30, 400, 1_500] {
            let mut child = command()
                .args(["demo", "--", "sleep", "4242"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("execpath starts");
            thread::sleep(Duration::from_millis(after));
            let kill = std::process::Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
            assert!(kill.expect("kill runs").success());
            child.wait().expect("execpath exits");
            let end = Instant::now() + GONE_WITHIN;
            while !left().is_empty() && Instant::now() < end {
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(left(), Vec::<String>::new(), "{signal} after {after} ms");
            let sleeps = std::process::Command::new("pgrep").args(["-x", "-f", "sleep 4242"]).output();
            assert_eq!(sleeps.map(|ran| ran.stdout).unwrap_or_default(), b"", "{signal} after {after} ms");
        }
    }
}

#[test]
fn demo_ends_endless_command() {
    let _alone = ALONE.lock();
    let begun = Instant::now();
    let ran = finish(command().args(["demo", "-o", "jsonl", "--", "sleep", "4242"]));
    assert_eq!(ran.code, Some(4));
    assert!(ran.stderr.contains("error: the command had not ended after 10s\n"), "{}", ran.stderr);
    // Far below the command's 4242 s; an emulated machine needs more than a few seconds to clean up.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn demo_recording_replays_identically() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("demo.jsonl.zst");
    let ran = demo(&["--record", &file.to_string_lossy()]);
    let again = finish(command().args(["replay", "-o", "jsonl"]).arg(&file));
    assert_eq!(again.stdout, ran.stdout);
}
