//! A stream gives the same sessions as the files of its recordings.

use std::path::{Path, PathBuf};

use execpath::{
    model::Span,
    stream::{Files, Publisher},
};
use execpath_tests::{
    binary::{Ran, run},
    merged::OtherHost,
    nats::{Server, is_installed},
};
use serde_json::Value;

use crate::publish::{feed, often, publish, publisher, run_of};

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name)
}

/// Hosts with clocks of their own.
fn hosts(folder: &Path) -> Vec<PathBuf> {
    let hosts = [("client", 0, 0), ("master", 500, 180), ("worker", 20, 0)];
    let of = |(hostname, boot_lead, utc_lead)| {
        let host = OtherHost { hostname, boot_lead: Span::from_secs(boot_lead), utc_lead: Span::from_secs(utc_lead) };
        host.record(&recording(&format!("hosts/{hostname}.jsonl.zst")), folder)
    };
    hosts.map(of).into()
}

fn sessions(of: &str) -> Ran {
    let ran = run(["replay", of, "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran
}

#[test]
fn stream_gives_sessions_of_its_recording() {
    if !is_installed() {
        return;
    }
    let server = Server::start("authorization { token: \"s3cret\" }");
    for (cluster, rotate) in [("one-part", Publisher::rotate()), ("parts", often())] {
        let file = recording("hosts/all.jsonl.zst");
        let address = server.address(cluster).replace("//", "//s3cret@");
        let written = publish(&file, &address, &Files::default(), rotate);
        assert!(written.observations > 500, "{written:?}");
        assert_eq!(written.undelivered, 0);
        let whole = sessions(file.to_str().expect("a path"));
        let read = sessions(&address);
        assert!(whole.stdout.len() > 10_000);
        assert_eq!(read.stdout, whole.stdout, "{cluster}");
        assert!(read.stderr.starts_with("stream: "), "{}", read.stderr);
        assert!(!read.stderr.contains("s3cret"), "{}", read.stderr);
        // The other commands read the same.
        let files = ["--from", file.to_str().expect("a path"), "--kind", "all", "-o", "json"];
        let stream = ["--from", &address, "--kind", "all", "-o", "json"];
        let list = |from: [&str; 6]| run(["ls"].into_iter().chain(from)).stdout;
        assert_eq!(list(stream), list(files));
        let diagnosis = |from: &str| run(["diagnose", "--from", from, "-o", "json"]).stdout;
        assert_eq!(diagnosis(&address), diagnosis(file.to_str().expect("a path")));
    }
}

#[test]
fn stream_joins_hosts_as_merge_joins_files() {
    if !is_installed() {
        return;
    }
    let (server, folder) = (Server::start(""), tempfile::tempdir().expect("a folder"));
    let files = hosts(folder.path());
    let merged = folder.path().join("merged.jsonl.zst");
    let output = ["-o".as_ref(), merged.as_os_str()];
    let ran = run(["merge".as_ref()].into_iter().chain(files.iter().map(|file| file.as_os_str())).chain(output));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let address = server.address("hosts");
    // Arrival in another order than that of the names.
    for file in files.iter().rev() {
        assert_eq!(publish(file, &address, &Files::default(), Publisher::rotate()).undelivered, 0);
    }
    let whole = sessions(merged.to_str().expect("a path"));
    let read = sessions(&address);
    let all: Vec<Value> = serde_json::from_str(&whole.stdout).expect("an array");
    let hosts = |one: &Value| one["hops"].as_array().is_some_and(|hops| hops.iter().any(|hop| hop["host"] == "worker"));
    assert!(all.iter().any(|one| one["complete"] == true && hosts(one)), "{}", whole.stdout);
    assert_eq!(read.stdout, whole.stdout);
    assert!(read.stderr.contains("3 hosts heard"), "{}", read.stderr);
    assert!(read.stderr.contains(": client, master, worker\n"), "{}", read.stderr);
    // A recording of the stream is one more recording.
    let copy = folder.path().join("copy.jsonl.zst");
    let copied = run(["record".as_ref(), copy.as_os_str(), "--from".as_ref(), address.as_ref()]);
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    assert!(copied.stderr.contains(" of 3 hosts: "), "{}", copied.stderr);
    assert_eq!(sessions(copy.to_str().expect("a path")).stdout, whole.stdout);
}

#[test]
fn parts_of_several_hosts_join_from_their_last_ones() {
    if !is_installed() {
        return;
    }
    let (server, folder) = (Server::start(""), tempfile::tempdir().expect("a folder"));
    let address = server.address("parts");
    let files = hosts(folder.path());
    for file in &files {
        assert_eq!(publish(file, &address, &Files::default(), often()).undelivered, 0);
    }
    let merged = folder.path().join("merged.jsonl.zst");
    let output = ["-o".as_ref(), merged.as_os_str()];
    run(["merge".as_ref()].into_iter().chain(files.iter().map(|file| file.as_os_str())).chain(output));
    assert_eq!(sessions(&address).stdout, sessions(merged.to_str().expect("a path")).stdout);
}

#[test]
fn publisher_waits_for_server_that_is_down_at_start() {
    if !is_installed() {
        return;
    }
    let down = Server::start("").stop("");
    let file = recording("hosts/all.jsonl.zst");
    let address = down.address("later");
    let publisher = publisher(&address, &Files::default(), &run_of(&file));
    let mut server = None;
    let written = feed(&file, Box::new(publisher), often(), || server = Some(down.up()));
    assert_eq!(written.undelivered, 0);
    assert_eq!(sessions(&address).stdout, sessions(file.to_str().expect("a path")).stdout);
}

#[test]
fn publisher_resumes_after_restart_of_the_server() {
    if !is_installed() {
        return;
    }
    let file = recording("hosts/all.jsonl.zst");
    let server = Server::start("");
    let address = server.address("restart");
    let publisher = publisher(&address, &Files::default(), &run_of(&file));
    let mut again = None;
    let written = feed(&file, Box::new(publisher), often(), || again = Some(server.stop("").up()));
    assert_eq!(written.undelivered, 0);
    assert_eq!(sessions(&address).stdout, sessions(file.to_str().expect("a path")).stdout);
}

#[test]
fn absent_server_stream_and_file_are_reported() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let down = Server::start("").stop("");
    let file = folder.path().join("a.jsonl");
    let record = |address: &str| {
        let ran = run(["record".as_ref(), file.as_os_str(), "--from".as_ref(), address.as_ref()]);
        assert_eq!(ran.code, Some(5), "{}", ran.stderr);
        assert!(ran.stderr.lines().any(|line| line.starts_with("hint: ")), "{}", ran.stderr);
        assert!(!file.exists());
        ran.stderr
    };
    assert!(record(&down.address("c")).contains("cannot connect"));
    let server = down.up();
    let said = record(&server.address("c"));
    assert!(said.contains("no stream of this cluster"), "{said}");
    // Observations that nobody takes are counted.
    let down = server.stop("");
    let recording = recording("hosts/client.jsonl.zst");
    let publisher = publisher(&down.address("c"), &Files::default(), &run_of(&recording));
    let written = feed(&recording, Box::new(publisher), Publisher::rotate(), || {});
    assert_eq!((written.undelivered > 0, written.undelivered), (true, written.observations));
}
