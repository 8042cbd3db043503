//! The reader of recordings: arbitrary bytes, compressed or not, with and without a header.
#![no_main]

use std::io::Cursor;

use execpath::record::Reader;
use execpath_fuzz::recording;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for bytes in [data.to_vec(), recording(data)] {
        let Ok(mut reader) = Reader::new(Box::new(Cursor::new(bytes))) else { continue };
        let read = reader.by_ref().count();
        assert!(reader.end().is_some(), "the reader has no end");
        assert!(reader.next().is_none(), "an observation follows the end");
        assert!(read <= data.len(), "more observations than bytes");
    }
});
