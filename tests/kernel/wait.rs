//! Waiting for what nothing tells of.

use std::{
    io::{ErrorKind, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Who takes what was written last does it within this time.
const TAKEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Looks until there is an answer; `None` after that time.
pub(crate) fn wait_for<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        let late = Instant::now() > end;
        let found = look();
        if found.is_some() || late {
            return found;
        }
        std::thread::sleep(LOOK);
    }
}

/// Writes until nobody takes more: then the file stays full.
pub(crate) fn stuff(mut file: impl Write + AsFd, within: Duration) {
    let end = Instant::now() + within;
    loop {
        match file.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let room = poll(&mut [PollFd::new(&file, PollFlags::OUT)], Some(&TAKEN)).expect("a file of ours");
                if room == 0 {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < end, "buffers end");
    }
}
