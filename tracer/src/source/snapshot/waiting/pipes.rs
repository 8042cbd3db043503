//! Copies inside dockerd, which passes a process's output from one goroutine to another.
//!
//! The first goroutine copies the FIFO to a `*broadcaster.Unbuffered` (container/stream/streams.go: `CopyToPipe`), which writes to one
//! `*ioutils.BytesPipe` for each attached client. The second copies the pipe to the hijacked connection (container/stream/attach.go:
//! `CopyStreams`). A goroutine that does not wait for its file waits for the other one, on the pipe's `sync.Cond`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    memory::ReadWords as _,
    poller::{Polled, Side},
    walk::Walk,
};

/// Pipes of one `Unbuffered` that are read. An exec has one.
const MAX_LINKS: usize = 4;

/// Descriptors at both ends of pipes, by the pipe's address.
#[derive(Debug, Default)]
struct Pipes {
    /// FIFOs that are copied to a pipe.
    filled: BTreeMap<u64, BTreeSet<u32>>,
    /// Connections to which a pipe is copied.
    emptied: BTreeMap<u64, BTreeSet<u32>>,
}

/// Copies from FIFO to connection through a pipe. The pipe must have no other source and no other target.
///
/// Both ends of a pipe are live arguments of parked goroutines (`frames`), and the pipe's list of waiters is the runtime's own: dead
/// words lead to no pipe.
pub(super) fn copies(walk: &Walk<'_>, fifos: &[Polled], connections: &[Polled]) -> BTreeSet<(u32, u32)> {
    let mut pipes = Pipes::default();
    for fifo in fifos {
        pipes.follow_fifo(walk, *fifo, connections);
    }
    for connection in connections {
        pipes.follow_connection(walk, *connection, fifos);
    }
    pipes.joined()
}

impl Pipes {
    /// Follows the goroutine that waits to read a FIFO to its pipes, and the goroutines that wait for these to their connections.
    fn follow_fifo(&mut self, walk: &Walk<'_>, fifo: Polled, connections: &[Polled]) {
        let filled = || {
            let waiter = walk.waiter(fifo, Side::Reads)?;
            let is_still = || walk.waiter(fifo, Side::Reads) == Some(waiter);
            walk.in_frames(waiter, is_still, |frames| {
                let copies = walk.values_copied(frames).into_iter();
                let own = copies.filter(|(_, reader)| walk.ends().reads(*reader, fifo));
                own.flat_map(|(writer, _)| pipes_of(walk, writer)).collect::<BTreeSet<u64>>()
            })
        };
        for pipe in filled().unwrap_or_default() {
            self.filled.entry(pipe).or_default().insert(fifo.fd);
            for (writer, reader) in copies_at_pipe(walk, pipe) {
                if reader == pipe {
                    self.emptied.entry(pipe).or_default().extend(walk.ends().written_to(writer, connections));
                }
            }
        }
    }

    /// Follows the goroutine that waits to write to a connection to its pipe, and the goroutines that wait for it to their FIFOs.
    fn follow_connection(&mut self, walk: &Walk<'_>, connection: Polled, fifos: &[Polled]) {
        let own = std::slice::from_ref(&connection);
        let emptied = || {
            let waiter = walk.waiter(connection, Side::Writes)?;
            let is_still = || walk.waiter(connection, Side::Writes) == Some(waiter);
            walk.in_frames(waiter, is_still, |frames| {
                let copies = walk.values_copied(frames).into_iter();
                let own = copies.filter(|(writer, _)| walk.ends().written_to(*writer, own).is_some());
                let readers = own.map(|(_, reader)| reader);
                readers.filter(|reader| cond_of(walk, *reader).is_some()).collect::<BTreeSet<u64>>()
            })
        };
        for pipe in emptied().unwrap_or_default() {
            self.emptied.entry(pipe).or_default().insert(connection.fd);
            for (writer, reader) in copies_at_pipe(walk, pipe) {
                if pipes_of(walk, writer).contains(&pipe) {
                    self.filled.entry(pipe).or_default().extend(walk.ends().read_from(reader, fifos));
                }
            }
        }
    }

    /// Pairs of the only FIFO and the only connection of each pipe.
    fn joined(&self) -> BTreeSet<(u32, u32)> {
        let only = |found: &BTreeSet<u32>| found.first().copied().filter(|_| found.len() == 1);
        let pair = |(pipe, from)| Some((only(from)?, only(self.emptied.get(pipe)?)?));
        self.filled.iter().filter_map(pair).collect()
    }
}

/// Pipes of an `Unbuffered`: a mutex of one word, then a slice of interfaces. Empty if `writer` is none.
fn pipes_of(walk: &Walk<'_>, writer: u64) -> Vec<u64> {
    let writers = || {
        let [_mutex, first, length, capacity] = walk.words.some(writer)?;
        let length = usize::try_from(length).ok().filter(|length| (1..=MAX_LINKS).contains(length))?;
        if capacity < u64::try_from(length).ok()? {
            return None;
        }
        let words = walk.words.many(first, 2 * length)?;
        Some(words.into_iter().skip(1).step_by(2).collect::<Vec<_>>())
    };
    let mut pipes = writers().unwrap_or_default();
    pipes.retain(|pipe| cond_of(walk, *pipe).is_some());
    pipes
}

/// Address of the `sync.Cond` of a `BytesPipe`: it follows the mutex, and its `L` is that mutex.
fn cond_of(walk: &Walk<'_>, pipe: u64) -> Option<u64> {
    let [_mutex, cond] = walk.words.some(pipe)?;
    let [kind, lock] = walk.words.some(cond)?;
    (lock == pipe && walk.words.is_type(kind)).then_some(cond)
}

/// Writer and reader of each copy by the goroutines that wait for a pipe.
fn copies_at_pipe(walk: &Walk<'_>, pipe: u64) -> Vec<(u64, u64)> {
    // sync.Cond: `L`, and a `notifyList`: two counters, a lock, `head` (sync/runtime.go).
    walk.copies_of_waiters(|| walk.words.one(cond_of(walk, pipe)?.checked_add(32)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::snapshot::waiting::{
        fake::{Calls, Fake, TYPE, mappings},
        frames::Frames,
        layout::Layout,
        memory::{Pages, Words},
    };

    /// Descriptor and pollDesc.
    const FIFO: (u32, u64) = (5, 0x1000);
    const CONNECTIONS: [(u32, u64); 2] = [(6, 0x1100), (7, 0x1200)];
    /// Goroutines that read the FIFO and write to the connection.
    const READER: u64 = 0x2000;
    const WRITER: u64 = 0x2200;
    const FILE: u64 = 0x3000;
    /// A `*stdcopy.stdWriter` for each connection.
    const WRITERS: [u64; 2] = [0x3200, 0x3280];
    const UNBUFFERED: u64 = 0x3300;
    const PIPE: u64 = 0x3400;
    const COND: u64 = 0x3500;
    const SUDOG: u64 = 0x3600;

    /// An exec: its FIFO leads through a pipe to the first connection.
    fn exec() -> Fake {
        let mut memory = Fake::program();
        memory.put(FILE, &[FILE + 0x80]);
        memory.put(FILE + 0x80, &[0, 0, u64::from(FIFO.0), FIFO.1]);
        memory.put(FIFO.1 + 8, &[u64::from(FIFO.0)]);
        for ((fd, poller), writer) in CONNECTIONS.into_iter().zip(WRITERS) {
            let connection = 0x4000 + poller;
            memory.put(poller + 8, &[u64::from(fd)]);
            memory.put(writer, &[TYPE, connection]);
            memory.put(connection, &[connection + 0x40]);
            memory.put(connection + 0x40, &[0, 0, u64::from(fd), poller]);
        }
        memory.put(UNBUFFERED, &[0, UNBUFFERED + 0x40, 1, 1]);
        memory.put(UNBUFFERED + 0x40, &[TYPE, PIPE]);
        memory.put(PIPE, &[0, COND]);
        memory.put(COND, &[TYPE, PIPE, 0, 0, SUDOG]);
        memory.park(READER, 0x8000, &[TYPE, UNBUFFERED, TYPE, FILE]);
        memory.park(WRITER, 0xa000, &[TYPE, WRITERS[0], TYPE, PIPE]);
        memory
    }

    /// The process prints nothing: one goroutine waits for the FIFO, the other one for the pipe.
    fn idle() -> Fake {
        let mut memory = exec();
        memory.put(FIFO.1 + 24, &[READER]);
        memory.put(SUDOG, &[WRITER]);
        memory
    }

    /// The client does not read: one goroutine waits for the pipe, the other one for the connection.
    fn stuck() -> Fake {
        let mut memory = exec();
        memory.put(CONNECTIONS[0].1 + 32, &[WRITER]);
        memory.put(SUDOG, &[READER]);
        memory
    }

    fn found(memory: &Fake) -> Vec<(u32, u32)> {
        let mappings = mappings();
        let words = Words::new(memory, &mappings);
        let layout = Layout::of("go1.19.8").unwrap();
        let (pages, frames) = (Pages::new(&words), Frames::new(&words, layout));
        let walk = Walk { words: &words, pages: &pages, frames: &frames, layout };
        let connections = CONNECTIONS.map(|(fd, data)| walk.polled(fd, data, false).unwrap());
        copies(&walk, &[walk.polled(FIFO.0, FIFO.1, true).unwrap()], &connections).into_iter().collect()
    }

    #[test]
    fn pipe_leads_from_fifo_to_connection() {
        assert_eq!(found(&idle()), [(5, 6)]);
        assert_eq!(found(&stuck()), [(5, 6)]);
        assert_eq!(found(&exec()), [], "no goroutine waits");
    }

    #[test]
    fn words_that_do_not_fit_give_no_answer() {
        let other = 0x3800;
        for (at, word, why) in [
            (COND + 8, other, "another's lock"),
            (COND, other, "no interface"),
            (SUDOG, 0, "no goroutine waits for the pipe"),
            (UNBUFFERED + 16, 0, "no writers"),
            (UNBUFFERED + 16, 1 << 20, "too many"),
            (UNBUFFERED + 24, 0, "no slice"),
            (UNBUFFERED + 0x48, other, "another pipe"),
            (READER + 144, 2, "the goroutine runs"),
            (WRITER + 144, 2, "the goroutine runs"),
            (0xaf98, other, "from another pipe"),
        ] {
            for mut memory in [idle(), stuck()] {
                memory.put(at, &[word]);
                assert_eq!(found(&memory), [], "{why}");
            }
        }
    }

    #[test]
    fn arguments_of_past_calls_lead_nowhere() {
        for (g, stack, words) in
            [(READER, 0x8000, [TYPE, UNBUFFERED, TYPE, FILE]), (WRITER, 0xa000, [TYPE, WRITERS[0], TYPE, PIPE])]
        {
            for mut memory in [idle(), stuck()] {
                memory.park_in(Calls::Leave, g, stack, &words);
                assert_eq!(found(&memory), []);
            }
        }
    }

    #[test]
    fn pipe_with_two_readers_leads_nowhere() {
        let mut memory = idle();
        memory.put(SUDOG + 8, &[SUDOG + 0x80]);
        memory.put(SUDOG + 0x80, &[0x2400]);
        memory.park(0x2400, 0xc000, &[TYPE, WRITERS[1], TYPE, PIPE]);
        assert_eq!(found(&memory), []);
    }
}
