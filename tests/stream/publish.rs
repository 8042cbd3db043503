//! Publishes recordings, and keeps batches.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use execpath::{
    record::{Batch, BatchSink, Rotate, Written},
    stream::{Files, Publisher, Run},
};
use execpath_tests::publishing;
pub(crate) use execpath_tests::publishing::{often, run_of};

/// A publisher to this address, with its queue in memory.
pub(crate) fn publisher(address: &str, files: &Files, run: &Run) -> Publisher {
    publishing::publisher(address, files, run, None)
}

/// Feeds a recording to a sink. `at_half` is called after half of the observations.
pub(crate) fn feed(recording: &Path, sink: Box<dyn BatchSink>, rotate: Rotate, at_half: impl FnOnce()) -> Written {
    let mut at_half = Some(at_half);
    publishing::feed_pieces(recording, sink, rotate, 2, Vec::new(), |_| at_half.take().into_iter().for_each(|it| it()))
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
