//! Bounds of a recording. A recording may come from anywhere, and a small file must not take all memory or time of the
//! reading host. The reader reports larger values as damage. docs/recording-format.md lists these bounds.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::model::{BootTime, Fact, Observation};

/// Maximum of empty lines in a file. A writer produces none; an edited file may have some.
const MAX_EMPTY: u64 = 10_000;

/// Longest string in a line, in characters. The longest text read from a process has 64 KiB, and base64 turns three
/// bytes into four.
const MAX_STRING: usize = 128 << 10;

/// Longest name of a loss counter, in bytes.
const MAX_LOSS_NAME: usize = 64;

/// Maximum of loss counters in one recording. The tracer has about twenty.
const MAX_LOSSES: usize = 64;

/// Maximum of decompressed bytes per compressed byte. Real recordings have 8 to 52; a zstd frame of equal lines has
/// 30,000.
const MAX_RATIO: u64 = 1_000;

/// Decompressed bytes without a ratio check: the decoder reads ahead, and a short file of a few equal lines is
/// harmless.
const FREE: u64 = 16 << 20;

/// Maximum of resident memory of the reading process, in bytes. Numbers bound the tables of the correlator; this bounds
/// their texts.
const MAX_MEMORY: u64 = 1 << 30;

/// Lines between two checks of the memory. A line has at most 1 MiB, and lines of that length are rare.
const LINES_PER_LOOK: u64 = 1 << 10;

/// Checks the number of empty lines so far.
pub(super) fn empty_lines(count: u64) -> Result<(), String> {
    if count > MAX_EMPTY { Err(format!("more than {MAX_EMPTY} empty lines")) } else { Ok(()) }
}

/// Checks the lengths of strings in a line of JSON by their quotes. Does not check that the line is JSON.
pub(super) fn strings(line: &[u8]) -> Result<(), String> {
    if line.len() <= MAX_STRING {
        return Ok(());
    }
    let (mut length, mut is_inside, mut bytes) = (0, false, line.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => (length, is_inside) = (0, !is_inside),
            b'\\' if is_inside => {
                // `\u` with four digits is one character, and so is a short escape.
                if bytes.next() == Some(&b'u') {
                    bytes.nth(3);
                }
                length += 1;
            }
            _ if is_inside => length += 1,
            _ => {}
        }
        if length > MAX_STRING {
            return Err(format!("a string longer than {} KiB", MAX_STRING >> 10));
        }
    }
    Ok(())
}

/// Checks an observation. `losses` holds the names of loss counters so far.
pub(super) fn observation(seen: &Observation, losses: &mut BTreeSet<String>) -> Result<(), String> {
    if seen.at > BootTime::LATEST {
        return Err("`at` is more than 100 years after boot".to_owned());
    }
    if let Fact::Audited(event) = &seen.fact
        && event.received.max(event.written) > BootTime::LATEST
    {
        return Err("a time of the audit log is more than 100 years after boot".to_owned());
    }
    let Fact::Lost { what, .. } = &seen.fact else { return Ok(()) };
    if what.len() > MAX_LOSS_NAME {
        return Err(format!("the name of a loss is longer than {MAX_LOSS_NAME} bytes"));
    }
    if !losses.contains(what) {
        losses.insert(what.clone());
    }
    if losses.len() > MAX_LOSSES {
        return Err(format!("more than {MAX_LOSSES} names of losses"));
    }
    Ok(())
}

/// The kernel's count of the pages of this process (proc_pid_statm(5)); `None` without procfs.
static PAGES: OnceLock<Option<File>> = OnceLock::new();

fn pages() -> Option<&'static File> {
    PAGES.get_or_init(|| File::open("/proc/self/statm").ok()).as_ref()
}

/// Opens what the bound of memory reads. Call this before a confinement that refuses new files: the bound has no effect otherwise.
pub fn open_memory_count() {
    let _file = pages();
}

/// Resident pages of this process.
fn resident() -> Option<u64> {
    let mut text = [0; 128];
    // Each read from the beginning counts anew.
    let length = pages()?.read_at(&mut text, 0).ok()?;
    str::from_utf8(text.get(..length)?).ok()?.split(' ').nth(1)?.parse().ok()
}

/// Checks the memory of this process every [`LINES_PER_LOOK`] lines. Passes without procfs.
pub(super) fn memory(line: u64) -> Result<(), String> {
    if !line.is_multiple_of(LINES_PER_LOOK) {
        return Ok(());
    }
    let bytes = resident().unwrap_or_default().saturating_mul(rustix::param::page_size() as u64);
    if bytes > MAX_MEMORY {
        Err(format!("the state at this point takes more than {} MiB", MAX_MEMORY >> 20))
    } else {
        Ok(())
    }
}

/// Counter of the bytes read from a compressed file.
#[derive(Clone, Default)]
pub(super) struct Ratio(Arc<AtomicU64>);

impl Ratio {
    /// Wraps a stream so that its bytes are counted.
    pub(super) fn count<R: Read>(&self, stream: R) -> impl Read + use<R> {
        Counted { stream, bytes: self.clone() }
    }

    /// Checks the compression ratio for this number of decompressed bytes.
    pub(super) fn check(&self, bytes: u64) -> Result<(), String> {
        let compressed = self.0.load(Ordering::Relaxed);
        if bytes > FREE && bytes / MAX_RATIO > compressed {
            return Err(format!("compression ratio above {MAX_RATIO}: not a valid recording"));
        }
        Ok(())
    }
}

struct Counted<R> {
    stream: R,
    bytes: Ratio,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.bytes.0.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    #[test]
    fn string_length_counts_an_escape_as_one_character() {
        let line = |text: &str| [b"{\"a\":\"".as_slice(), text.as_bytes(), b"\",\"b\":[1]}"].concat();
        assert_eq!(strings(&line(&"x".repeat(MAX_STRING))), Ok(()));
        assert!(strings(&line(&"x".repeat(MAX_STRING + 1))).is_err());
        assert_eq!(strings(&line(&"\\u0001".repeat(MAX_STRING))), Ok(()));
        assert!(strings(&line(&"\\u0001".repeat(MAX_STRING + 1))).is_err());
        assert!(strings(&line(&"\\\"".repeat(MAX_STRING + 1))).is_err(), "a quote that is escaped ends no string");
        assert_eq!(strings(&b"[1,\"x\"],".repeat(MAX_STRING)), Ok(()));
        // Cut inside an escape.
        assert_eq!(strings(&[line(&"x".repeat(9)), b"\"\\u0".to_vec(), vec![b' '; MAX_STRING]].concat()), Ok(()));
    }

    #[test]
    fn loss_names_and_times_are_bounded() {
        let mut losses = BTreeSet::new();
        let mut lost = |at, what: String| {
            observation(&Observation::new(at, Source::Engine, Fact::Lost { what, count: 1 }), &mut losses)
        };
        for number in 0..2 * MAX_LOSSES {
            assert_eq!(lost(BootTime(7), format!("loss-{number}")).is_ok(), number < MAX_LOSSES, "{number}");
        }
        assert!(lost(BootTime(7), "x".repeat(MAX_LOSS_NAME + 1)).is_err());
        assert!(lost(BootTime::LATEST.plus(crate::model::Span(1)), "loss-1".to_owned()).is_err());
    }
}
