//! The decoder of the kernel's records. The first byte selects the kind, so that the fuzzer reaches lengths and
//! bodies at once.
#![no_main]

use std::mem::offset_of;

use execpath::decode::decode;
use libfuzzer_sys::fuzz_target;
use tracer_common::{ABI, Header};

fuzz_target!(|data: &[u8]| {
    drop(decode(data));
    let Some((kind, rest)) = data.split_first() else { return };
    let mut record = rest.to_vec();
    let fields = [(offset_of!(Header, abi), ABI), (offset_of!(Header, kind), u16::from(*kind))];
    for (at, value) in fields {
        let Some(place) = record.get_mut(at..at + 2) else { return };
        place.copy_from_slice(&value.to_ne_bytes());
    }
    if let Ok(seen) = decode(&record) {
        // Every decoded record can be recorded, and is read back unchanged.
        let line = serde_json::to_string(&seen).expect("observation serialises");
        assert_eq!(serde_json::from_str::<execpath::model::Observation>(&line).expect("observation parses"), seen);
    }
});
