//! Lines of the API server's audit log.
#![no_main]

use execpath::{model::ClockAnchor, source::audit::event};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(Some(event)) = event(line, ClockAnchor { boot_to_utc_ns: 1_795_299_200_000_000_000 }) {
            assert!(event.user.name.len() <= 1024 && event.request.command.len() <= 64, "{event:?}");
        }
    }
});
