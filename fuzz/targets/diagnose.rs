//! A whole recording: reader, correlator, diagnosis over time, and every output.
#![no_main]

use std::io::{self, Cursor};

use execpath::{
    engine::{Filter, Playback, Setup, Until, Kinds, replay, Flow},
    record::Reader,
    redact::Redactor,
    render::{Collector, PICTURES},
    sink::{self, LISTS, SHOWN, Sink, Style},
};
use execpath_fuzz::{mutate, recording};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fn setup(sinks: Vec<Box<dyn Sink>>) -> Setup {
    let filter = Filter { kinds: Kinds::All, ..Filter::default() };
    Setup { filter, redactor: Redactor::default(), until: Until::Never, sinks }
}

fn reader(data: &[u8]) -> Reader {
    Reader::new(Box::new(Cursor::new(recording(data)))).expect("it has a header")
}

fuzz_target!(|data: &[u8]| {
    let mut played = Playback::new(reader(data), setup(Vec::new())).expect("nothing is written");
    played.to_the_end().expect("nothing is written");
    let seen = played.status_of_whole(true);
    for verdict in seen.report.diagnosis.all() {
        let span = verdict.since.zip(verdict.until);
        assert!(span.is_none_or(|(since, until)| since <= until), "a fault ends before it begins");
    }
    sink::diagnosis::text(&mut io::sink(), Style::default(), &seen.header, &seen.report, &seen.report.diagnosis)
        .and_then(|()| sink::diagnosis::json(&mut io::sink(), &seen.header, &seen.report.diagnosis))
        .expect("a sink takes all");
    for format in LISTS.iter().chain(SHOWN) {
        let mut sinks = vec![(format.open)(Box::new(io::sink()), Style { color: true })];
        sink::render(&mut sinks, &seen.header, &seen.report).expect("a sink takes all");
    }
    let (sink, collector) = Collector::shared();
    replay(&mut reader(data), setup(vec![sink]), |_at| Flow::Continue).expect("nothing is written");
    let story = collector.lock().expect("nobody panicked").story();
    for picture in PICTURES {
        (picture.write)(&story, &mut io::sink()).expect("a sink takes all");
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let own = if seed % 8 == 0 { None } else { mutate(data, size, max_size, seed) };
    own.unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});
