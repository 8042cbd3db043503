//! dockerd hands what a process prints from goroutine to goroutine. One copies the FIFO to a `*broadcaster.Unbuffered`
//! (container/stream/streams.go: `CopyToPipe`), which writes to a `*ioutils.BytesPipe` each for who attached; another one copies
//! that to the hijacked connection (container/stream/attach.go: `CopyStreams`). Each waits for the other on the pipe's
//! `sync.Cond` where it does not wait for its file.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    memory::Source as _,
    walk::{Polled, Side, Walk},
};

/// Of one `Unbuffered`: two are one more than there are.
const MAX_LINKS: usize = 4;

/// What fills pipes, and what they are emptied to, by the pipe's address.
#[derive(Debug, Default)]
struct Pipes {
    filled: BTreeMap<u64, BTreeSet<u32>>,
    emptied: BTreeMap<u64, BTreeSet<u32>>,
}

/// Both ends of a pipe are arguments in use of goroutines that are parked (`frames`), and the pipe's list of waiters is the
/// runtime's own: words of earlier calls lead to no pipe.
///
/// From FIFO to connection, by way of a pipe that has no other filler and is emptied to no other.
pub(super) fn copies(walk: &Walk<'_>, fifos: &[Polled], connections: &[Polled]) -> BTreeSet<(u32, u32)> {
    let mut pipes = Pipes::default();
    for fifo in fifos {
        pipes.look_at_fifo(walk, *fifo, connections);
    }
    for connection in connections {
        pipes.look_at_connection(walk, *connection, fifos);
    }
    pipes.joined()
}

impl Pipes {
    /// Who waits to read that FIFO fills pipes; who waits for these empties them.
    fn look_at_fifo(&mut self, walk: &Walk<'_>, fifo: Polled, connections: &[Polled]) {
        let filled = || {
            let waiter = walk.waiter(fifo, Side::Reads)?;
            let is_still = || walk.waiter(fifo, Side::Reads) == Some(waiter);
            walk.in_frames(waiter, is_still, |frames| {
                let copies = walk.values_copied(frames).into_iter();
                let own = copies.filter(|(_, reader)| walk.ends().reads(*reader, fifo));
                own.flat_map(|(writer, _)| walk.pipes_of(writer)).collect::<BTreeSet<u64>>()
            })
        };
        for pipe in filled().unwrap_or_default() {
            self.filled.entry(pipe).or_default().insert(fifo.fd);
            for (writer, reader) in walk.copies_at_pipe(pipe) {
                if reader == pipe {
                    self.emptied.entry(pipe).or_default().extend(walk.ends().written_to(writer, connections));
                }
            }
        }
    }

    /// Who waits to write to that connection empties a pipe; who waits for that fills it.
    fn look_at_connection(&mut self, walk: &Walk<'_>, connection: Polled, fifos: &[Polled]) {
        let own = std::slice::from_ref(&connection);
        let emptied = || {
            let waiter = walk.waiter(connection, Side::Writes)?;
            let is_still = || walk.waiter(connection, Side::Writes) == Some(waiter);
            walk.in_frames(waiter, is_still, |frames| {
                let copies = walk.values_copied(frames).into_iter();
                let own = copies.filter(|(writer, _)| walk.ends().written_to(*writer, own).is_some());
                let readers = own.map(|(_, reader)| reader);
                readers.filter(|reader| walk.cond_of(*reader).is_some()).collect::<BTreeSet<u64>>()
            })
        };
        for pipe in emptied().unwrap_or_default() {
            self.emptied.entry(pipe).or_default().insert(connection.fd);
            for (writer, reader) in walk.copies_at_pipe(pipe) {
                if walk.pipes_of(writer).contains(&pipe) {
                    self.filled.entry(pipe).or_default().extend(walk.ends().read_from(reader, fifos));
                }
            }
        }
    }

    fn joined(&self) -> BTreeSet<(u32, u32)> {
        let only = |found: &BTreeSet<u32>| found.first().copied().filter(|_| found.len() == 1);
        let pair = |(pipe, from)| Some((only(from)?, only(self.emptied.get(pipe)?)?));
        self.filled.iter().filter_map(pair).collect()
    }
}

impl Walk<'_> {
    /// Pipes to which that writes, if it is an `Unbuffered`: behind a mutex of a word, a slice of interfaces.
    fn pipes_of(&self, writer: u64) -> Vec<u64> {
        let writers = || {
            let [_mutex, first, length, capacity] = self.words.some(writer)?;
            let length = usize::try_from(length).ok().filter(|length| (1..=MAX_LINKS).contains(length))?;
            if capacity < u64::try_from(length).ok()? {
                return None;
            }
            let words = self.words.many(first, 2 * length)?;
            Some(words.into_iter().skip(1).step_by(2).collect::<Vec<_>>())
        };
        let mut pipes = writers().unwrap_or_default();
        pipes.retain(|pipe| self.cond_of(*pipe).is_some());
        pipes
    }

    /// Address of the `sync.Cond` of a `BytesPipe`, which is behind its mutex, and whose `L` is that mutex.
    fn cond_of(&self, pipe: u64) -> Option<u64> {
        let [_mutex, cond] = self.words.some(pipe)?;
        let [kind, lock] = self.words.some(cond)?;
        (lock == pipe && self.words.is_type(kind)).then_some(cond)
    }

    /// What goroutines that wait for that pipe copy: writers and readers.
    fn copies_at_pipe(&self, pipe: u64) -> Vec<(u64, u64)> {
        // sync.Cond: `L`, and a `notifyList`: two counters, a lock, `head` (sync/runtime.go).
        self.copies_of_waiters(|| self.words.one(self.cond_of(pipe)?.checked_add(32)?))
    }
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
    /// Who reads the FIFO, and who writes to the connection.
    const READER: u64 = 0x2000;
    const WRITER: u64 = 0x2200;
    const FILE: u64 = 0x3000;
    /// A `*stdcopy.stdWriter` for each connection.
    const WRITERS: [u64; 2] = [0x3200, 0x3280];
    const UNBUFFERED: u64 = 0x3300;
    const PIPE: u64 = 0x3400;
    const COND: u64 = 0x3500;
    const SUDOG: u64 = 0x3600;

    /// An exec: its FIFO, by way of a pipe, to the first connection.
    fn world() -> Fake {
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

    /// Nothing to print: one waits for the FIFO, the other one for the pipe.
    fn idle() -> Fake {
        let mut memory = world();
        memory.put(FIFO.1 + 24, &[READER]);
        memory.put(SUDOG, &[WRITER]);
        memory
    }

    /// Nobody takes it: one waits for the pipe, the other one for the connection.
    fn stuck() -> Fake {
        let mut memory = world();
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
    fn a_pipe_leads_from_fifo_to_connection_whoever_waits_for_it() {
        assert_eq!(found(&idle()), [(5, 6)]);
        assert_eq!(found(&stuck()), [(5, 6)]);
        assert_eq!(found(&world()), [], "nobody waits");
    }

    #[test]
    fn what_does_not_fit_is_no_answer() {
        let other = 0x3800;
        for (at, word, why) in [
            (COND + 8, other, "another's lock"),
            (COND, other, "no interface"),
            (SUDOG, 0, "nobody waits for the pipe"),
            (UNBUFFERED + 16, 0, "no writers"),
            (UNBUFFERED + 16, 1 << 20, "too many"),
            (UNBUFFERED + 24, 0, "no slice"),
            (UNBUFFERED + 0x48, other, "another pipe"),
            (READER + 144, 2, "it runs"),
            (WRITER + 144, 2, "it runs"),
            (0xaf98, other, "from another pipe"),
        ] {
            for mut memory in [idle(), stuck()] {
                memory.put(at, &[word]);
                assert_eq!(found(&memory), [], "{why}");
            }
        }
    }

    #[test]
    fn arguments_of_a_call_that_is_past_lead_nowhere() {
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
    fn a_pipe_that_two_empty_leads_nowhere() {
        let mut memory = idle();
        memory.put(SUDOG + 8, &[SUDOG + 0x80]);
        memory.put(SUDOG + 0x80, &[0x2400]);
        memory.park(0x2400, 0xc000, &[TYPE, WRITERS[1], TYPE, PIPE]);
        assert_eq!(found(&memory), []);
    }
}
