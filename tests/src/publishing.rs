//! Publishes recordings as a trace would: through the pump, with its parts.

use std::path::Path;

use execpath::{
    correlate::Options,
    engine::{Pump, Setup},
    model::Span,
    record::{BatchSink, Reader, RecordTarget, Rotate, Writer, Written},
    redact::Redactor,
    sink::{Header, Sink},
    stream::{Address, Credentials, Disk, Files, Publisher, Run},
};

/// Frequent parts: recordings of tests are short.
#[must_use]
pub fn often() -> Rotate {
    Rotate { age: Some(Span::from_millis(50)), ..Rotate::default() }
}

/// Identity of a recording's host.
///
/// # Panics
/// If it is no recording.
#[must_use]
pub fn run_of(recording: &Path) -> Run {
    let host = Reader::open(recording).expect("a recording").header().host.clone();
    Run { hostname: host.hostname, boot_id: host.boot_id, began: 1 }
}

/// A publisher to this address, with a queue in memory or on disk.
///
/// # Panics
/// If an argument is not valid.
#[must_use]
pub fn publisher(address: &str, files: &Files, run: &Run, disk: Option<&Disk>) -> Publisher {
    let address = Address::parse(address).expect("an address");
    let credentials = Credentials::read(files, &address).expect("credentials");
    Publisher::new(&address, credentials, run, disk).expect("a publisher")
}

/// Feeds a recording to a sink, in so many pieces. `between` is called after each of them but the last.
///
/// # Panics
/// If the sink cannot be written.
pub fn feed_pieces(
    recording: &Path,
    sink: Box<dyn BatchSink>,
    rotate: Rotate,
    pieces: usize,
    exporters: Vec<Box<dyn Sink>>,
    mut between: impl FnMut(usize),
) -> Written {
    let mut reader = Reader::open(recording).expect("a recording");
    let header = reader.header().clone();
    let seen: Vec<_> = reader.by_ref().collect();
    let writer = Writer::begin(RecordTarget::of_batches(sink, rotate), &header).expect("a writer");
    let redactor = Redactor { keep_secrets: true, ..Redactor::default() };
    let setup = Setup { redactor, exporters, ..Setup::default() };
    let host = Header { host: header.host.clone(), ..Header::default() };
    let options = Options { pairing: header.pairing(), ..Options::default() };
    let mut pump = Pump::new(setup, host, &options, Some(writer));
    for (piece, observations) in seen.chunks(seen.len().div_ceil(pieces)).enumerate() {
        if piece > 0 {
            between(piece);
        }
        for seen in observations {
            pump.take(seen.clone()).expect("the sink takes it");
        }
    }
    pump.finish().expect("the sink takes it").written.expect("a recording")
}
