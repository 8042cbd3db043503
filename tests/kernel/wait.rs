//! Waits for conditions that send no notification.

use std::{
    io::{ErrorKind, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Pause between two checks of a condition.
const LOOK: Duration = Duration::from_millis(5);
/// Longest time in which a reader takes the last write.
const TAKEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Polls until `look` returns a value; returns `None` after the given time.
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

/// Writes until the reader takes no more: afterwards the file stays full.
pub(crate) fn fill_up(mut file: impl Write + AsFd, within: Duration) {
    let end = Instant::now() + within;
    loop {
        match file.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let room =
                    poll(&mut [PollFd::new(&file, PollFlags::OUT)], Some(&TAKEN)).expect("poll(2) of an open file");
                if room == 0 {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < end, "the file does not fill up");
    }
}
