//! Merged recordings of several hosts equal one recording of all hosts. `cargo xtask record hosts` made them
//! simultaneously in the lab.

use std::{
    cmp::Ordering,
    path::{Path, PathBuf},
};

use execpath::{
    model::{ClockAnchor, Fact, HostFacts, Observation, Source, Span},
    record::{Header, RecordTarget, Writer},
};
use execpath_tests::{
    binary::{Ran, run},
    merged::{OtherHost, another_cluster, essence},
    scenario,
};
use serde_json::{Value, json};

const HOSTS: [&str; 3] = ["client", "master", "worker"];
const MINUTE: u64 = 60;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("recordings/hosts/{name}.jsonl.zst"))
}

/// Merges into a file in this folder.
fn merge(files: &[PathBuf], folder: &Path) -> (PathBuf, Ran) {
    let merged = folder.join("merged.jsonl.zst");
    let files = files.iter().map(|file| file.as_os_str());
    let output = [merged.as_os_str()];
    let ran = run(std::iter::once("merge".as_ref()).chain(files).chain(std::iter::once("-o".as_ref())).chain(output));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
    (merged, ran)
}

/// Sessions of users. The kubelet's probes are left out, because the recordings start and end at slightly different
/// times.
fn sessions(recording: &Path) -> Vec<Value> {
    let ran = run(["replay".as_ref(), recording.as_os_str(), "-o".as_ref(), "json".as_ref()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&ran.stdout).expect("an array")
}

/// Essences in sorted order, because each recording has its own times.
fn essences(sessions: &[Value]) -> Vec<String> {
    let mut found: Vec<String> = sessions.iter().map(|one| format!("{:#}", essence(one))).collect();
    found.sort();
    found
}

fn ids(sessions: &[Value]) -> Vec<&str> {
    let mut ids: Vec<&str> = sessions.iter().filter_map(|one| one["id"].as_str()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn three_merged_hosts_equal_one_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = sessions(&recorded("all"));
    assert!(whole.iter().filter(|one| one["complete"] == true).count() >= 5, "{whole:#?}");
    let mut files = HOSTS.map(recorded);
    // The order of the arguments does not matter.
    for _ in 0..files.len() {
        let (merged, ran) = merge(&files, folder.path());
        let sessions = sessions(&merged);
        assert_eq!(essences(&sessions), essences(&whole), "{}", ran.stderr);
        assert_eq!(ids(&sessions), ids(&whole));
        std::fs::remove_file(merged).expect("the merged file");
        files.rotate_left(1);
    }
}

#[test]
fn merge_corrects_clocks_minutes_apart() {
    let whole = sessions(&recorded("all"));
    let hosts = [(0, 0), (500, 3 * MINUTE), (20, 0)].into_iter().zip(HOSTS).map(|((boot_lead, utc_lead), hostname)| {
        OtherHost { hostname, boot_lead: Span::from_secs(boot_lead), utc_lead: Span::from_secs(utc_lead) }
    });
    let hosts: Vec<OtherHost> = hosts.collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut files: Vec<PathBuf> = hosts.iter().map(|one| one.record(&recorded(one.hostname), folder.path())).collect();
    for _ in 0..files.len() {
        let (merged, ran) = merge(&files, folder.path());
        let sessions = sessions(&merged);
        assert_eq!(essences(&sessions), essences(&whole), "{}", ran.stderr);
        let first = hosts.iter().find(|one| files[0].ends_with(format!("{}.jsonl.zst", one.hostname)));
        let first = first.expect("one of them");
        for one in &hosts {
            let line = ran.stderr.lines().find_map(|line| line.strip_prefix(&format!("{}: ", one.hostname)));
            let expected = match one.utc_lead.cmp(&first.utc_lead) {
                _ if one.hostname == first.hostname => "reference clock",
                Ordering::Equal => "clock agrees (",
                Ordering::Greater => " s ahead, corrected by ",
                Ordering::Less => " s behind, corrected by ",
            };
            assert!(line.is_some_and(|line| line.contains(expected)), "{}: {}", one.hostname, ran.stderr);
        }
        // Host of each process.
        for hop in sessions.iter().flat_map(|one| one["hops"].as_array().expect("hops")) {
            let host = match hop["role"].as_str().expect("a role") {
                "kubectl" => "client",
                "apiserver" | "etcd" => "master",
                _ => "worker",
            };
            assert_eq!(hop["host"], host, "{hop}");
        }
        std::fs::remove_file(merged).expect("the merged file");
        files.rotate_left(1);
    }
}

#[test]
fn merge_separates_equal_ids_of_two_kernels() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = recorded("all");
    let other = another_cluster(&one, "another", folder.path());
    let (alone, alone_there) = (sessions(&one), sessions(&other));
    let (merged, _) = merge(&[one, other], folder.path());
    let both = sessions(&merged);
    let mut expected = [essences(&alone), essences(&alone_there)].concat();
    expected.sort();
    assert_eq!(essences(&both), expected);
    let mut expected = [ids(&alone), ids(&alone_there)].concat();
    expected.sort_unstable();
    assert_eq!(ids(&both), expected);
}

#[test]
fn merge_reports_wrong_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |hostname, utc_lead| {
        let host = OtherHost { hostname, boot_lead: Span::from_secs(30), utc_lead: Span::from_secs(utc_lead) };
        host.record(&recorded(hostname), folder.path())
    };
    let (_, ran) = merge(&[file("client", 0), file("master", 3 * MINUTE), file("worker", 0)], folder.path());
    let line = |host: &str| ran.stderr.lines().find(|line| line.starts_with(host)).expect("a line").to_owned();
    assert_eq!(line("client"), "client: reference clock");
    assert!(line("master").starts_with("master: clock was 180.00"), "{}", ran.stderr);
    assert!(line("master").contains(" s ahead, corrected by "), "{}", ran.stderr);
    assert!(line("merged").ends_with("merged.jsonl.zst"), "{}", ran.stderr);
}

#[test]
fn merge_refuses_merged_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = another_cluster(&recorded("all"), "another", folder.path());
    let (merged, _) = merge(&[recorded("all"), other], folder.path());
    let ran = run(["merge".as_ref(), merged.as_os_str(), recorded("client").as_os_str(), "-o".as_ref(), "x".as_ref()]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.stderr.contains("the recording is already merged"), "{}", ran.stderr);
    assert!(ran.stderr.lines().any(|line| line.starts_with("hint: ")), "{}", ran.stderr);
}

#[test]
fn merge_keeps_one_clock_per_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    // The kubelet was stopped: it accepted 14 s after the API server connected.
    let mut files = ["c", "m", "w"].map(|end| recorded(&format!("../field/c01c-kubelet-stopped-{end}")));
    for _ in 0..files.len() {
        let (merged, ran) = merge(&files, folder.path());
        let clocks: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("clock")).collect();
        assert_eq!(clocks, ["vm: reference clock"; 3], "{}", ran.stderr);
        std::fs::remove_file(merged).expect("the merged file");
        files.rotate_left(1);
    }
}

/// Writes these observations as a recording of a host with this name.
fn made_on(hostname: &str, seen: &[Observation], folder: &Path) -> PathBuf {
    let path = folder.join(format!("{hostname}.made.jsonl"));
    let (hostname, boot_id) = (hostname.to_owned(), format!("boot of {hostname}"));
    let header = Header::new(
        ClockAnchor { boot_to_utc_ns: 1_795_297_200_000_000_000 },
        HostFacts { hostname, boot_id, ..HostFacts::default() },
    );
    let mut writer =
        Writer::begin(RecordTarget::create(&path).expect("a file"), &header).expect("the recording can be written");
    seen.iter().for_each(|seen| writer.write(seen).expect("the recording can be written"));
    let end = seen.iter().map(|seen| seen.at).max().unwrap_or_default();
    writer.write(&Observation::new(end, Source::Engine, Fact::Stopped)).expect("the recording can be written");
    writer.finish().expect("the recording can be written");
    path
}

#[test]
fn isns_link_hosts_through_nat() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/isn-nat.txt");
    let text = std::fs::read_to_string(path).expect("a scenario");
    let facts = scenario::parse("isn-nat.txt", &text, 0).expect("a valid scenario").facts();
    let (client, server): (Vec<_>, Vec<_>) =
        facts.into_iter().partition(|seen| seen.task.is_some_and(|task| [50, 51].contains(&task.tgid)));
    let client = made_on("client", &client, folder.path());
    let server = made_on("server", &server, folder.path());
    let host = OtherHost { hostname: "server", boot_lead: Span::from_secs(100), utc_lead: Span(0) };
    let (merged, _) = merge(&[client, host.record(&server, folder.path())], folder.path());
    let sessions = sessions(&merged);
    let exec = sessions.iter().find(|one| one["kind"] == "exec" && one["complete"] == true).expect("an exec");
    assert_eq!((&exec["hops"][0]["pid"], &exec["hops"][0]["host"]), (&json!(50), &json!("client")), "{exec:#}");
    assert_eq!((&exec["links"][0]["confidence"], &exec["links"][0]["evidence"]), (&json!("exact"), &json!(["isn"])));
}
