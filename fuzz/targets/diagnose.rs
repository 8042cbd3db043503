//! A whole recording: reader, correlator, diagnosis over time, and every output.
#![no_main]

use std::io::{self, Cursor};

use execpath::{
    engine::{Filter, Flow, Kinds, Playback, Setup, Until, replay},
    record::Reader,
    redact::Redactor,
    render::{Collector, PICTURES},
    sink::{self, LISTS, SHOWN, Sink, Style},
};
use execpath_fuzz::{mutate, recording};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fn setup(sinks: Vec<Box<dyn Sink>>) -> Setup {
    let filter = Filter { kinds: Kinds::All, ..Filter::default() };
    Setup { filter, redactor: Redactor::default(), until: Until::Never, sinks, ..Setup::default() }
}

fn reader(data: &[u8]) -> Reader {
    Reader::new(Box::new(Cursor::new(recording(data)))).expect("recording has a header")
}

fuzz_target!(|data: &[u8]| {
    let mut playback = Playback::new(reader(data), setup(Vec::new())).expect("playback without files succeeds");
    playback.to_the_end().expect("playback without files succeeds");
    let status = playback.status_of_whole(true);
    for verdict in status.report.diagnosis.all() {
        let span = verdict.since.zip(verdict.until);
        assert!(span.is_none_or(|(since, until)| since <= until), "a fault ends before it begins");
    }
    sink::diagnosis::text(
        &mut io::sink(),
        Style::default(),
        &status.header,
        &status.report,
        &status.report.diagnosis,
        sink::diagnosis::Detail::Every,
    )
    .and_then(|()| sink::diagnosis::json(&mut io::sink(), &status.header, &status.report.diagnosis))
    .expect("sink accepts every report");
    for format in LISTS.iter().chain(SHOWN) {
        let mut sinks = vec![(format.open)(Box::new(io::sink()), Style { color: true })];
        sink::render(&mut sinks, &status.header, &status.report).expect("sink accepts every report");
    }
    let (sink, collector) = Collector::shared();
    replay(&mut reader(data), setup(vec![sink]), |_at| Flow::Continue).expect("playback without files succeeds");
    let timeline = collector.lock().expect("lock is not poisoned").timeline();
    for picture in PICTURES {
        (picture.write)(&timeline, &mut io::sink()).expect("sink accepts every report");
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let own = if seed % 8 == 0 { None } else { mutate(data, size, max_size, seed) };
    own.unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});
