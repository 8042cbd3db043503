//! Copies between a WebSocket and a SPDY connection, as in the API server of Kubernetes 1.30 to 1.35 and in the kubelet of 1.36
//! (k8s.io/apiserver, pkg/util/proxy/streamtranslator.go).
//!
//! A copying goroutine waits on a Go channel, not for a connection. The goroutines that read the connections lead to the channel:
//!
//! * From SPDY: `Connection.Serve` reads for a `*spdystream.Connection`. Each of its `streams` holds the Go channel on which the copy
//!   of that stream waits (`Stream.dataChan`; moby/spdystream).
//! * From a WebSocket: `Conn.handle` reads for a `*wsstream.Conn`. Its channels hold an `io.Pipe` (wsstream/conn.go); the copy of
//!   stdin waits there (io/pipe.go).
//!
//! These paths only find candidates. Every word of such an object is tried, so offsets of fields need not be known. The proof is the
//! copying goroutine: it is parked, and the live arguments of its copy (`frames`) are the stream or channel, and a value that leads
//! to the other connection. Dead words are no live arguments.

use std::collections::BTreeSet;

use super::{
    frames::Frame,
    memory::ReadWords as _,
    poller::{Polled, Side},
    walk::Walk,
};

/// Words of an `io.pipe` that are tried.
const PIPE: usize = 6;
/// Words of a `*spdystream.Stream` that are tried.
const STREAM: usize = 16;
/// Words of a `*spdystream.Connection` that are tried. They include its `net.Conn`.
const CONNECTION: usize = 16;
/// Words of a map's first group or bucket, which holds eight entries; a session has at most five streams (internal/runtime/maps;
/// before Go 1.24 runtime/map.go).
const GROUP: usize = 17;
/// Channels of a WebSocket that are read. A session has five.
const MAX_CHANNELS: u64 = 16;

/// Copies from connection to connection, each by the live arguments of a copy that waits for a stream of the first one. They lead from
/// clients' WebSockets to SPDY connections that the process made, and back. Both lists must be in order of descriptors.
pub(super) fn copies(walk: &Walk<'_>, accepted: &[Polled], made: &[Polled]) -> BTreeSet<(u32, u32)> {
    let mut found = BTreeSet::new();
    let mut follow = |file: Polled, others: &[Polled], sources: &dyn Fn(u64) -> Vec<CopySource>| {
        // Pointers on the reader's stack lead to readers of copies; words of those may be Go channels; goroutines that wait there
        // and copy from this reader prove the other end.
        for source in pointers(walk, file).into_iter().flat_map(sources) {
            let to = source.waits.iter().flat_map(|channel| written(walk, *channel, source.reader, others));
            found.extend(to.map(|to| (file.fd, to)));
        }
    };
    for file in accepted {
        follow(*file, made, &|pointer| channels(walk, pointer, *file));
    }
    for file in made {
        follow(*file, accepted, &|pointer| streams(walk, pointer, *file));
    }
    found
}

/// Live words on the stack of the goroutine that waits to read a file.
fn pointers(walk: &Walk<'_>, file: Polled) -> BTreeSet<u64> {
    let find = || {
        let waiter = walk.waiter(file, Side::Reads)?;
        let is_still = || walk.waiter(file, Side::Reads) == Some(waiter);
        walk.in_frames(waiter, is_still, |frames| frames.iter().flat_map(Frame::pointers).collect())
    };
    find().unwrap_or_default()
}

/// A reader of a copy, and the words that may be Go channels on which the copy waits.
struct CopySource {
    reader: u64,
    waits: Vec<u64>,
}

/// Streams of a `*spdystream.Connection`; empty if the pointer is none, or belongs to another file.
fn streams(walk: &Walk<'_>, connection: u64, file: Polled) -> Vec<CopySource> {
    let pages = walk.pages;
    let own = std::slice::from_ref(&file);
    let Some([_type, inner, rest @ ..]) = pages.some::<CONNECTION>(connection) else { return Vec::new() };
    if walk.ends().read_from(inner, own).is_none() {
        return Vec::new();
    }
    let groups = rest.into_iter().filter_map(|map| {
        // The third word of a map is the address of its first bucket, or group.
        let [_, _, group] = pages.some(map)?;
        pages.some::<GROUP>(group)
    });
    let source = |stream: u64| {
        let words: [u64; STREAM] = walk.words.some(stream)?;
        let is_own = words.get(2) == Some(&connection) && walk.ends().stream_of(stream, own).is_some();
        is_own.then(|| CopySource { reader: stream, waits: words.to_vec() })
    };
    let streams: BTreeSet<u64> = groups.flatten().collect();
    streams.into_iter().filter_map(source).collect()
}

/// Channels of a `*wsstream.Conn`; empty if the pointer is none, or belongs to another file.
fn channels(walk: &Walk<'_>, connection: u64, file: Polled) -> Vec<CopySource> {
    // wsstream.Conn: protocols, selectedProtocol, channels
    let Some([_, _, _, first, length, _]) = walk.pages.some(connection) else { return Vec::new() };
    let source = |number: u64| {
        let channel = walk.words.one(first.checked_add(8 * number)?)?;
        walk.ends().stream_of(channel, std::slice::from_ref(&file))?;
        // websocketChannel: conn, num, r. `r` is an `*io.PipeReader`, which is an `io.pipe` or, before Go 1.22, leads to one.
        let [conn, _number, _type, pipe] = walk.words.some(channel)?;
        let words = |at: u64| walk.words.some::<PIPE>(at).map(|words| words.to_vec()).unwrap_or_default();
        let waits = words(pipe).into_iter().chain(walk.words.one(pipe).map(words).unwrap_or_default());
        (conn == connection).then(|| CopySource { reader: channel, waits: waits.collect() })
    };
    if length > MAX_CHANNELS { Vec::new() } else { (0..length).filter_map(source).collect() }
}

/// Connections to which goroutines copy from this reader while they wait to receive from this Go channel.
fn written(walk: &Walk<'_>, channel: u64, reader: u64, connections: &[Polled]) -> Vec<u32> {
    // runtime.hchan: `recvq` (runtime/chan.go).
    let Some(waiting) = channel.checked_add(walk.layout.receivers) else { return Vec::new() };
    let copies = walk.copies_of_waiters(|| walk.words.one(waiting));
    // remotecommand wraps the reader in a `readerWrapper`, which holds nothing else.
    let is_own = |value: u64| {
        value == reader
            || walk.words.some(value).is_some_and(|[kind, inner]| inner == reader && walk.words.is_type(kind))
    };
    let writers = copies.into_iter().filter(|(_, value)| is_own(*value)).map(|(writer, _)| writer);
    writers.filter_map(|writer| walk.ends().stream_of(writer, connections)).collect()
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

    /// Descriptor, pollDesc and reading goroutine: of the client's connection, and of two that the process made.
    const CLIENT: (u32, u64, u64) = (5, 0x1000, 0x2000);
    const MADE: [(u32, u64, u64); 2] = [(6, 0x1100, 0x2200), (7, 0x1200, 0x2400)];
    /// `*net.TCPConn` of a connection, by its pollDesc.
    const TCP: u64 = 0x8000;
    /// Goroutines that copy stdin and stdout, with their stacks.
    const COPIES: [(u64, u64); 2] = [(0x2600, 0x2_0000), (0x2800, 0x2_1000)];
    /// A `*wsstream.Conn`, and its channels 0 and 1.
    const WEB: u64 = 0x3000;
    const CHANNELS: [u64; 2] = [0x3400, 0x3480];
    const PIPE: u64 = 0x3500;
    /// A `*spdystream.Connection` of each connection that the process made; streams 1 and 3 of the first one.
    const SPDY: [u64; 2] = [0x4000, 0x4200];
    const STREAMS: [u64; 2] = [0x4400, 0x4500];
    /// Queues of stdin's pipe and of the data of stdout's stream, with the goroutine in each.
    const QUEUES: [u64; 2] = [0x5000, 0x5100];
    const SUDOGS: [u64; 2] = [0x5200, 0x5280];
    const WRAPPER: u64 = 0x5300;
    const GROUP: u64 = 0x5400;

    fn session() -> Fake {
        let mut memory = Fake::program();
        for (fd, poller, g) in [CLIENT, MADE[0], MADE[1]] {
            memory.put(poller + 8, &[u64::from(fd), 0, g]);
            memory.put(TCP + poller, &[TCP + poller + 0x40]);
            memory.put(TCP + poller + 0x40, &[0, 0, u64::from(fd), poller]);
        }
        memory.put(WEB, &[0, 0, 0, WEB + 0x80, 2, 2, 0, 0, WEB + 0x100]);
        memory.put(WEB + 0x80, &CHANNELS);
        memory.put(WEB + 0x100, &[0, 0, 0, TYPE, TCP + CLIENT.1]);
        memory.put(CHANNELS[0], &[WEB, 0, TYPE, PIPE]);
        memory.put(CHANNELS[1], &[WEB, 1]);
        memory.put(PIPE, &[0, QUEUES[0]]);
        memory.put(WRAPPER, &[TYPE, CHANNELS[0]]);
        for (spdy, (_, poller, _)) in SPDY.into_iter().zip(MADE) {
            memory.put(spdy, &[TYPE, TCP + poller]);
        }
        memory.put(SPDY[0] + 80, &[0x5500]);
        memory.put(0x5500, &[2, 0, GROUP]);
        memory.put(GROUP + 40, &STREAMS);
        for (number, stream) in STREAMS.into_iter().enumerate() {
            memory.put(stream, &[2 * number as u64 + 1, 0, SPDY[0]]);
        }
        memory.put(STREAMS[1] + 56, &[QUEUES[1]]);
        for ((queue, sudog), (g, _)) in QUEUES.into_iter().zip(SUDOGS).zip(COPIES) {
            memory.put(queue + 56, &[sudog]);
            memory.put(sudog, &[g]);
        }
        memory.park(CLIENT.2, 0x1_0000, &[WEB]);
        memory.park(MADE[0].2, 0x1_1000, &[SPDY[0]]);
        memory.park(MADE[1].2, 0x1_2000, &[SPDY[1]]);
        copying(&mut memory, Calls::Copy, 0, [STREAMS[0], WRAPPER]);
        copying(&mut memory, Calls::Copy, 1, [CHANNELS[1], STREAMS[1]]);
        memory
    }

    /// Arguments of one of the two copies.
    fn copying(memory: &mut Fake, calls: Calls, which: usize, [to, from]: [u64; 2]) {
        let (g, stack) = COPIES[which];
        memory.park_in(calls, g, stack, &[TYPE, to, TYPE, from]);
    }

    fn found(memory: &Fake) -> Vec<(u32, u32)> {
        let (mappings, layout) = (mappings(), Layout::of("go1.19.8").unwrap());
        let words = Words::new(memory, &mappings);
        let (pages, frames) = (Pages::new(&words), Frames::new(&words, layout));
        let walk = Walk { words: &words, pages: &pages, frames: &frames, layout };
        let polled = |(fd, poller, _): (u32, u64, u64)| walk.polled(fd, poller, false).unwrap();
        copies(&walk, &[polled(CLIENT)], &MADE.map(polled)).into_iter().collect()
    }

    #[test]
    fn copies_between_streams_lead_both_ways() {
        assert_eq!(found(&session()), [(5, 6), (6, 5)]);
        let mut memory = session();
        memory.put(GROUP + 40, &[0, 0]);
        memory.put(GROUP + 16, &[STREAMS[0], 3, STREAMS[1]]);
        assert_eq!(found(&memory), [(5, 6), (6, 5)], "in a map of Go 1.24 and later");
        let mut memory = session();
        memory.put(PIPE, &[PIPE + 0x40, 0]);
        memory.put(PIPE + 0x40, &[0, QUEUES[0]]);
        assert_eq!(found(&memory), [(5, 6), (6, 5)], "a pipe before Go 1.22");
    }

    #[test]
    fn arguments_of_past_calls_lead_nowhere() {
        let mut memory = session();
        copying(&mut memory, Calls::Leave, 0, [STREAMS[0], WRAPPER]);
        assert_eq!(found(&memory), [(6, 5)]);
        copying(&mut memory, Calls::Leave, 1, [CHANNELS[1], STREAMS[1]]);
        assert_eq!(found(&memory), []);
        let mut memory = session();
        for (_, _, g) in [CLIENT, MADE[0]] {
            memory.park_in(Calls::Leave, g, 0x1_0000 + 8 * (g - CLIENT.2), &[WEB, SPDY[0]]);
        }
        assert_eq!(found(&memory), [], "the reading goroutine served these before");
    }

    #[test]
    fn copy_of_another_value_leads_nowhere() {
        for (at, word, why) in [
            (SUDOGS[0], 0x2a00, "no goroutine"),
            (COPIES[0].0 + 144, 2, "it runs"),
            (QUEUES[0] + 56, 0, "nobody waits"),
            (WRAPPER + 8, CHANNELS[1], "reads another channel"),
            (WRAPPER, 1, "no reader"),
            (CHANNELS[0], WEB + 8, "another WebSocket's channel"),
            (WEB + 32, 1 << 20, "too many channels"),
            (STREAMS[0], 0, "no stream"),
            (STREAMS[0] + 16, 0, "a stream of no connection"),
        ] {
            let mut memory = session();
            memory.put(at, &[word]);
            assert!(!found(&memory).contains(&(5, 6)), "{why}");
        }
        for (at, word, why) in [
            (SUDOGS[1], 0x2a00, "no goroutine"),
            (GROUP + 48, 0, "no stream of it"),
            (STREAMS[1] + 16, SPDY[1], "another connection's stream"),
            (SPDY[0] + 80, 0, "no streams"),
            (CHANNELS[1] + 8, 2, "no channel"),
        ] {
            let mut memory = session();
            memory.put(at, &[word]);
            assert!(!found(&memory).contains(&(6, 5)), "{why}");
        }
        let mut memory = session();
        copying(&mut memory, Calls::Copy, 1, [CHANNELS[1], STREAMS[0]]);
        assert_eq!(found(&memory), [(5, 6)], "a goroutine waits for one stream and copies from another");
    }
}
