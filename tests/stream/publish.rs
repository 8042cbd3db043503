//! Publishes recordings as a trace would: through the pump, with its parts.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use execpath::{
    correlate::Options,
    engine::{Pump, Setup},
    model::Span,
    record::{Batch, BatchSink, Reader, RecordTarget, Rotate, Writer, Written},
    redact::Redactor,
    sink::Header,
    stream::{Address, Credentials, Files, Publisher, Run},
};

/// Frequent parts: recordings of tests are short.
pub(crate) fn often() -> Rotate {
    Rotate { age: Some(Span::from_millis(50)), ..Rotate::default() }
}

/// Identity of a recording's host.
pub(crate) fn run_of(recording: &Path) -> Run {
    let host = Reader::open(recording).expect("a recording").header().host.clone();
    Run { hostname: host.hostname, boot_id: host.boot_id, began: 1 }
}

/// A publisher to this address.
pub(crate) fn publisher(address: &str, files: &Files, run: &Run) -> Publisher {
    let address = Address::parse(address).expect("an address");
    let credentials = Credentials::read(files, &address).expect("credentials");
    Publisher::new(&address, credentials, run).expect("a publisher")
}

/// Feeds a recording to a sink. `at_half` is called after half of the observations.
pub(crate) fn feed(recording: &Path, sink: Box<dyn BatchSink>, rotate: Rotate, at_half: impl FnOnce()) -> Written {
    let mut reader = Reader::open(recording).expect("a recording");
    let header = reader.header().clone();
    let seen: Vec<_> = reader.by_ref().collect();
    let writer = Writer::begin(RecordTarget::of_batches(sink, rotate), &header).expect("a writer");
    let setup = Setup { redactor: Redactor { keep_secrets: true, ..Redactor::default() }, ..Setup::default() };
    let host = Header { host: header.host.clone(), ..Header::default() };
    let options = Options { pairing: header.pairing(), ..Options::default() };
    let mut pump = Pump::new(setup, host, &options, Some(writer));
    let (first, second) = seen.split_at(seen.len() / 2);
    for seen in first {
        pump.take(seen.clone()).expect("the sink takes it");
    }
    at_half();
    for seen in second {
        pump.take(seen.clone()).expect("the sink takes it");
    }
    pump.finish().expect("the sink takes it").written.expect("a recording")
}

/// Publishes a recording as a whole.
pub(crate) fn publish(recording: &Path, address: &str, files: &Files, rotate: Rotate) -> Written {
    let publisher = publisher(address, files, &run_of(recording));
    feed(recording, Box::new(publisher), rotate, || {})
}

/// Keeps batches, at most so many at a time.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Number and batch.
    pub(crate) batches: Arc<Mutex<Vec<(u64, Batch)>>>,
    pub(crate) room: Arc<Mutex<usize>>,
    next: u64,
}

impl BatchSink for Kept {
    fn take(&mut self, batch: Batch) -> bool {
        let mut room = self.room.lock().expect("no panic");
        let has_room = *room > 0;
        if has_room {
            *room -= 1;
            self.batches.lock().expect("no panic").push((self.next, batch));
        }
        self.next += 1;
        has_room
    }

    fn has_room(&self) -> bool {
        *self.room.lock().expect("no panic") > 0
    }

    fn finish(&mut self) -> u64 {
        0
    }
}

impl Kept {
    pub(crate) fn of(room: usize) -> Self {
        Self { batches: Arc::default(), room: Arc::new(Mutex::new(room)), next: 0 }
    }

    /// The batches that were kept.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        self.batches.lock().expect("no panic").iter().map(|(_, batch)| batch.frame.clone()).collect()
    }
}
