//! A reader that starts in the middle of each host's stream.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use execpath::{
    merge::{FromStream, Merge},
    model::Span,
    record::{RecordTarget, Writer},
    stream::{Assembly, Message},
};
use execpath_tests::{
    binary::run,
    merged::{OtherHost, essence},
};
use serde_json::Value;

use crate::publish::{Kept, feed, often};

fn sessions(file: &Path) -> BTreeMap<String, Value> {
    let ran = run(["replay".as_ref(), file.as_os_str(), "-o".as_ref(), "json".as_ref()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let all: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
    all.into_iter().map(|one| (one["id"].as_str().expect("an id").to_owned(), essence(&one))).collect()
}

/// Merges the streams of all hosts without their first `left_out` of a hundred messages.
fn merged(hosts: &[(&str, Vec<Vec<u8>>)], left_out: usize, folder: &Path) -> (u64, PathBuf) {
    let mut assembly = Assembly::default();
    for (host, frames) in hosts {
        for (number, payload) in frames.iter().enumerate().skip(frames.len() * left_out / 100) {
            let id = format!("boot of {host}.1.{number}");
            let position = number as u64;
            assert!(assembly.take(Message { host, id: &id, position, stored_ns: 1, payload }));
        }
    }
    // As old as the recordings.
    let stored_ns = 1_795_297_200_000_000_000;
    let streams = assembly.finish().into_iter().map(|host| {
        assert_eq!((host.tally.damaged, host.tally.missing), (0, 0), "{:?}", host.tally);
        FromStream { host: host.host, bytes: Arc::from(host.bytes), stored_ns }
    });
    let (merge, refused) = Merge::survey_streams(streams.collect()).expect("recordings");
    assert!(refused.is_empty(), "{refused:?}");
    let (header, file) = (merge.header(String::new()), folder.join(format!("{left_out}.jsonl")));
    let writer = Writer::begin(RecordTarget::create(&file).expect("a file"), &header).expect("a file");
    merge.write(writer).expect("a file");
    (header.part.map_or(0, |part| part.told_again), file)
}

#[test]
fn later_parts_of_all_hosts_keep_open_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = ["client", "master", "worker"].map(|hostname| {
        let host = OtherHost { hostname, boot_lead: Span(0), utc_lead: Span(0) };
        let path = format!("recordings/hosts/{hostname}.jsonl.zst");
        let file = host.record(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), folder.path());
        let kept = Kept::of(usize::MAX);
        feed(&file, Box::new(kept.clone()), often(), || {});
        (hostname, kept.frames())
    });
    let (told_again, whole) = merged(&hosts, 0, folder.path());
    let whole = sessions(&whole);
    assert_eq!(told_again, 0);
    assert!(whole.len() >= 5, "{whole:#?}");
    for left_out in [10, 25, 50] {
        let (told_again, file) = merged(&hosts, left_out, folder.path());
        assert!(told_again > 0);
        let late = sessions(&file);
        assert!(!late.is_empty() && late.len() <= whole.len(), "{left_out}");
        for (id, session) in &late {
            assert_eq!(Some(session), whole.get(id), "{left_out}");
        }
    }
}
