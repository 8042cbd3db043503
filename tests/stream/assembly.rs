//! Messages in any order, in any number, and of any content become recordings.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use execpath::{
    model::{Fact, Observation, Span},
    record::{MAX_BATCH, Reader},
    stream::{Assembly, HostRecording, Message},
};
use execpath_tests::merged::OtherHost;

use crate::publish::{Kept, feed, often};

/// A recording of a host with this name.
fn recording(hostname: &'static str, folder: &Path) -> PathBuf {
    let host = OtherHost { hostname, boot_lead: Span(0), utc_lead: Span(0) };
    host.record(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/hosts/all.jsonl.zst"), folder)
}

/// The batches of a recording, in many parts.
fn frames() -> (Vec<Observation>, Vec<Vec<u8>>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording("node", folder.path());
    let kept = Kept::of(usize::MAX);
    feed(&file, Box::new(kept.clone()), often(), || {});
    let frames: Vec<Vec<u8>> =
        kept.batches.lock().expect("no panic").iter().map(|(_, batch)| batch.frame.clone()).collect();
    assert!(frames.len() > 30, "{}", frames.len());
    (Reader::open(&file).expect("a recording").collect(), frames)
}

fn assemble<'a>(messages: impl IntoIterator<Item = (&'a str, u64, &'a [u8])>) -> HostRecording {
    let mut assembly = Assembly::default();
    for (position, (run, number, payload)) in (1..).zip(messages) {
        let id = format!("{run}.{number}");
        assert!(assembly.take(Message { host: "node", id: &id, position, stored_ns: position, payload }));
    }
    let mut hosts = assembly.finish();
    assert_eq!(hosts.len(), 1);
    hosts.remove(0)
}

/// A header that names another host.
const OTHERS: &str =
    r#""others":[{"hostname":"x","kernel":"","arch":"","boot_id":"","btf":true,"capabilities":0}],"command":"#;

const RUN: &str = "boot of node.1";

fn numbered(frames: &[Vec<u8>]) -> Vec<(&'static str, u64, &[u8])> {
    frames.iter().zip(0..).map(|(frame, number)| (RUN, number, frame.as_slice())).collect()
}

fn read(host: &HostRecording) -> Vec<Observation> {
    Reader::new(Box::new(std::io::Cursor::new(host.bytes.clone()))).expect("a recording").collect()
}

#[test]
fn reordered_and_repeated_messages_equal_recording() {
    let (seen, frames) = frames();
    let mut messages = numbered(&frames);
    messages.reverse();
    messages.rotate_left(7);
    let again = messages.clone();
    messages.extend(again.iter().step_by(3));
    let host = assemble(messages);
    assert_eq!(read(&host), seen);
    assert_eq!(
        (host.tally.duplicates, host.tally.missing, host.tally.damaged),
        (frames.len().div_ceil(3) as u64, 0, 0)
    );
}

#[test]
fn second_message_with_an_id_changes_nothing() {
    let (seen, frames) = frames();
    let mut messages = numbered(&frames);
    messages.push((RUN, 3, b"something else"));
    assert_eq!(read(&assemble(messages)), seen);
}

#[test]
fn missing_message_is_counted_and_next_part_begins_anew() {
    let (seen, frames) = frames();
    let mut messages = numbered(&frames);
    let gap = messages.len() / 2;
    messages.remove(gap);
    let host = assemble(messages);
    assert_eq!(host.tally.missing, 1);
    let read = read(&host);
    assert!(read.len() > 100 && read.len() < seen.len(), "{}", read.len());
    assert_eq!(read.last(), seen.last());
    // Repeated facts first, then everything.
    let new = seen.iter().rev().zip(read.iter().rev()).take_while(|(one, other)| one == other).count();
    assert!(new > 100, "{new}");
}

#[test]
fn newest_run_is_read_alone() {
    let (seen, frames) = frames();
    let messages = numbered(&frames);
    let earlier = messages.iter().take(9).map(|(_, number, payload)| ("boot of node.0", *number, *payload));
    let host = assemble(earlier.chain(messages.clone()));
    assert_eq!(read(&host), seen);
    assert_eq!(host.tally.earlier, 9);
}

#[test]
fn hostile_messages_are_refused_and_named() {
    let (_, frames) = frames();
    let zstd = |text: &[u8]| zstd::bulk::compress(text, 1).expect("compressed");
    let own = zstd::bulk::decompress(&frames[0], MAX_BATCH).expect("a batch");
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(own.clone()).expect("text").replacen(from, to, 1);
        assert_ne!(text.as_bytes(), own, "{from}");
        zstd(text.as_bytes())
    };
    let bomb = zstd(&vec![b'\n'; 1 << 30]);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let cases = [
        (b"not zstd".to_vec(), "Unknown frame descriptor"),
        (bomb, "longer than 1088 KiB after decompression"),
        (zstd(b"{\"at\":1"), "does not end with a whole line"),
        (zstd(b""), "does not end with a whole line"),
        (zstd(b"{\"execpath\":\n"), "its header: "),
        (changed("\"hostname\":\"node\"", "\"hostname\":\"other\""), "speaks for another host"),
        (changed("\"boot_id\":\"boot of node\"", "\"boot_id\":\"boot of other\""), "boot id"),
        (changed("\"command\":", OTHERS), "several hosts"),
        (frames[0][..frames[0].len() - 3].to_vec(), ""),
    ];
    for (payload, expected) in cases {
        let host = assemble([(RUN, 0, payload.as_slice())]);
        let (position, why) = host.tally.damage.clone().expect("damage");
        assert_eq!((position, host.tally.damaged, host.bytes.len()), (1, 1, 0));
        assert!(why.contains(expected), "{expected}: {why}");
        // The next part is read, whatever came before.
        let mut messages = vec![(RUN, 0, payload.as_slice())];
        messages.extend(numbered(&frames).into_iter().skip(1));
        assert!(read(&assemble(messages)).len() > 100);
    }
    for id in ["", "x", "boot.1.x", &format!("{}.1", "y".repeat(200))] {
        let mut assembly = Assembly::default();
        let message = Message { host: "node", id, position: 1, stored_ns: 1, payload: &frames[0] };
        assert!(assembly.take(message));
        assert_eq!(assembly.finish()[0].tally.damaged, 1, "{id}");
    }
}

#[test]
fn flood_is_refused_at_the_bound() {
    let (mut assembly, payload) = (Assembly::default(), vec![0; 1 << 20]);
    let is_taken = |number: u64| {
        let id = format!("b.1.{number}");
        assembly.take(Message { host: "node", id: &id, position: number, stored_ns: 1, payload: &payload })
    };
    let taken = (0..1_000).map(is_taken).take_while(|taken| *taken).count();
    assert_eq!(taken, 255);
}

#[test]
fn flood_discards_its_own_oldest_messages_alone() {
    let (seen, frames) = frames();
    let mut assembly = Assembly::default();
    let honest = |assembly: &mut Assembly, numbers: std::ops::Range<usize>| {
        for (number, payload) in frames.iter().enumerate().take(numbers.end).skip(numbers.start) {
            let id = format!("{RUN}.{number}");
            let message = Message { host: "node", id: &id, position: number as u64, stored_ns: 1, payload };
            assert_eq!(assembly.take_and_discard(message).get("node"), None);
        }
    };
    honest(&mut assembly, 0..20);
    let payload = vec![0; 1 << 20];
    let mut discarded = 0;
    for number in 0..1_000 {
        let id = format!("b.1.{number}");
        let message = Message { host: "rogue", id: &id, position: number, stored_ns: 1, payload: &payload };
        discarded += assembly.take_and_discard(message).values().sum::<u64>();
    }
    honest(&mut assembly, 20..frames.len());
    assert!((745..1_000).contains(&discarded), "{discarded}");
    let hosts = assembly.finish();
    assert_eq!(read(&hosts[0]), seen, "the other host is whole");
    // What is left begins with a part, here in the newer half, and is read.
    let large = zstd::bulk::compress(&noise(1 << 20), 1).expect("compressed");
    let mut assembly = Assembly::default();
    let (mut number, mut gone) = (0, 0);
    while gone == 0 {
        let id = format!("{RUN}.{number}");
        let payload = usize::try_from(number).ok().and_then(|number| frames.get(number.checked_sub(170)?));
        let message =
            Message { host: "node", id: &id, position: number, stored_ns: 1, payload: payload.unwrap_or(&large) };
        gone = assembly.take_and_discard(message).values().sum();
        number += 1;
    }
    let host = assembly.finish().remove(0);
    assert_eq!((host.tally.missing, host.tally.damaged), (0, 0), "{:?}", host.tally);
    assert!(gone >= number / 2 && host.bytes.len() > 64 << 20, "{gone} of {number}: {}", host.bytes.len());
}

/// A line that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0].max(b' ')
    };
    (0..length).map(next).chain([b'\n']).collect()
}

#[test]
fn refused_batches_are_counted_and_recording_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording("node", folder.path());
    let seen: Vec<Observation> = Reader::open(&file).expect("a recording").collect();
    let kept = Kept::of(2);
    let room = Arc::clone(&kept.room);
    let written = feed(&file, Box::new(kept.clone()), often(), move || *room.lock().expect("no panic") = usize::MAX);
    let batches = kept.batches.lock().expect("no panic").clone();
    let delivered: u64 = batches.iter().map(|(_, batch)| batch.observations).sum();
    assert!(written.undelivered > 100, "{written:?}");
    assert_eq!(delivered + written.undelivered, seen.len() as u64);
    let host = assemble(batches.iter().map(|(number, batch)| (RUN, *number, batch.frame.as_slice())));
    assert_eq!((host.tally.missing, host.tally.damaged), (1, 0), "{:?}", host.tally);
    // The count is in the stream itself.
    let read = read(&host);
    let lost = read.iter().filter_map(|seen| {
        let Fact::Lost { what, count } = &seen.fact else { return None };
        (what == "stream-full").then_some(*count)
    });
    assert_eq!(lost.collect::<Vec<u64>>(), [written.undelivered]);
    assert_eq!(read.last(), seen.last());
}
