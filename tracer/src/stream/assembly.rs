//! From messages to recordings: one recording for each host, its messages in order and each once. Knows no network.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::{self, Read},
};

use super::address::token_of;
use crate::record::{Header, MAX_BATCH, is_continued};

/// Most memory for the messages of all hosts.
const MAX_BYTES: usize = 256 << 20;

/// Memory of a message beside its payload, roughly.
const OVERHEAD: usize = 128;

/// Most runs of a host that are kept at a time. Only the last one is read; more are kept because messages of two runs may
/// arrive mixed.
const MAX_RUNS: usize = 4;

/// Most hosts: numbers of hosts in a merged recording have 16 bits.
const MAX_HOSTS: usize = 10_000;

/// Longest id of a message. A boot id has 36 characters, the numbers at most 20 each.
const MAX_ID: usize = 128;

/// Largest zstd window, as a power of two, as for files.
const MAX_WINDOW_LOG: u32 = 23;

/// A message of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Host of its subject, which the server has checked.
    pub host: &'a str,
    /// `Nats-Msg-Id`.
    pub id: &'a str,
    /// Position in the stream.
    pub position: u64,
    /// UTC at which the server stored it, in nanoseconds.
    pub stored_ns: u64,
    /// A batch, so it claims.
    pub payload: &'a [u8],
}

/// Messages that did not become part of a recording, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages with the id of another one.
    pub duplicates: u64,
    /// Messages missing between others.
    pub missing: u64,
    /// Messages of earlier runs.
    pub earlier: u64,
    /// Messages that were not batches, or spoke for another host.
    pub damaged: u64,
    /// The last such message: its position and the reason.
    pub damage: Option<(u64, String)>,
}

/// The recording of one host: its last run, from the last point from which it is whole.
#[derive(Clone, Debug)]
pub struct HostRecording {
    /// Host, as in the subject.
    pub host: String,
    /// Compressed recording; empty if nothing can be read.
    pub bytes: Vec<u8>,
    /// UTC at which the server stored the last message, in nanoseconds.
    pub last_ns: u64,
    /// Messages left out.
    pub tally: Tally,
}

/// Messages of one run, in order.
struct RunFeed {
    id: String,
    /// Messages by number: position and payload.
    messages: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Position of the last message.
    last: u64,
}

#[derive(Default)]
struct HostFeed {
    runs: Vec<RunFeed>,
    /// Memory of the messages of all runs.
    bytes: usize,
    last_ns: u64,
    tally: Tally,
}

/// Collects messages in any order.
#[derive(Default)]
pub struct Assembly {
    hosts: BTreeMap<String, HostFeed>,
    bytes: usize,
}

impl Assembly {
    /// Takes a message. Returns false if memory does not allow for more.
    pub fn take(&mut self, message: Message<'_>) -> bool {
        if self.bytes + weight(message.payload) > MAX_BYTES
            || (self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(message.host))
        {
            return false;
        }
        let host = self.hosts.entry(message.host.to_owned()).or_default();
        host.last_ns = host.last_ns.max(message.stored_ns);
        let before = host.bytes;
        host.take(message);
        self.bytes = self.bytes + host.bytes - before;
        true
    }

    /// The recordings, by host.
    #[must_use]
    pub fn finish(self) -> Vec<HostRecording> {
        self.hosts.into_iter().map(|(host, feed)| feed.finish(host)).collect()
    }
}

impl HostFeed {
    fn damaged(&mut self, position: u64, why: impl Into<String>) {
        self.tally.damaged += 1;
        self.tally.damage = Some((position, why.into()));
    }

    fn take(&mut self, message: Message<'_>) {
        let Message { id, position, payload, .. } = message;
        let number = id.rsplit_once('.').and_then(|(run, number)| Some((run, number.parse::<u64>().ok()?)));
        let Some((run, number)) = number.filter(|_| id.len() <= MAX_ID) else {
            return self.damaged(position, "its id is not one of execpath");
        };
        let index = self.runs.iter().position(|one| one.id == run).unwrap_or_else(|| {
            if self.runs.len() >= MAX_RUNS
                && let Some((oldest, _)) = self.runs.iter().enumerate().min_by_key(|(_, one)| one.last)
            {
                let gone = self.runs.swap_remove(oldest);
                self.bytes -= gone.messages.values().map(|(_, payload)| weight(payload)).sum::<usize>();
                self.tally.earlier += gone.messages.len() as u64;
            }
            self.runs.push(RunFeed { id: run.to_owned(), messages: BTreeMap::new(), last: 0 });
            self.runs.len() - 1
        });
        let Some(run) = self.runs.get_mut(index) else { return };
        run.last = run.last.max(position);
        // The first one counts: later ones are deliveries of the same batch.
        match run.messages.entry(number) {
            Entry::Occupied(_) => self.tally.duplicates += 1,
            Entry::Vacant(place) => {
                self.bytes += weight(payload);
                place.insert((position, payload.to_vec()));
            }
        }
    }

    fn finish(mut self, host: String) -> HostRecording {
        let mut runs = std::mem::take(&mut self.runs);
        runs.sort_by_key(|run| run.last);
        let newest = runs.pop();
        self.tally.earlier += runs.iter().map(|run| run.messages.len() as u64).sum::<u64>();
        let mut joined = Joined::default();
        if let Some(run) = newest {
            let boot_id = run.id.rsplit_once('.').map_or("", |(boot_id, _)| boot_id).to_owned();
            let mut next = None;
            for (number, (position, payload)) in run.messages {
                if let Some(missing) = next.map(|next| number - next).filter(|missing| *missing > 0) {
                    self.tally.missing += missing;
                    joined = Joined::default();
                }
                next = number.checked_add(1);
                if let Err(why) = joined.add(&host, &boot_id, &payload) {
                    self.damaged(position, why);
                    joined = Joined::default();
                }
            }
        }
        HostRecording { host, bytes: joined.bytes, last_ns: self.last_ns, tally: self.tally }
    }
}

/// Memory of a message.
const fn weight(payload: &[u8]) -> usize {
    payload.len() + OVERHEAD
}

/// Parts of a recording, joined to one.
#[derive(Default)]
struct Joined {
    bytes: Vec<u8>,
    /// Header of the first part; `None` before a part has begun.
    header: Option<Header>,
    /// Repeated observations still to be left out.
    to_skip: u64,
}

impl Joined {
    /// Adds a message. Those before the first beginning of a part are left out.
    fn add(&mut self, host: &str, boot_id: &str, payload: &[u8]) -> Result<(), String> {
        let text = text(payload).map_err(|error| error.to_string())?;
        let mut lines: &[u8] = &text;
        let mut is_whole = true;
        if text.starts_with(BEGINNING) {
            let end = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
            let header: Header =
                serde_json::from_slice(&text[..end]).map_err(|error| format!("its header: {error}"))?;
            check(&header, host, boot_id)?;
            let told_again = header.part.map_or(0, |part| part.told_again);
            let header = Header { part: None, ..header };
            match &self.header {
                Some(first) if *first == header => {
                    self.to_skip = told_again;
                    lines = &text[end..];
                    is_whole = false;
                }
                Some(_) => return Err("its header differs from the one before".to_owned()),
                None => self.header = Some(header),
            }
        }
        if self.header.is_none() {
            return Ok(());
        }
        while self.to_skip > 0 && !lines.is_empty() {
            let end = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
            lines = &lines[end..];
            self.to_skip -= 1;
            is_whole = false;
        }
        let without_end = lines.strip_suffix(b"\n").unwrap_or(lines);
        let last = without_end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if without_end.get(last..).is_some_and(is_continued) {
            lines = &lines[..last];
            is_whole = false;
        }
        if is_whole {
            self.bytes.extend_from_slice(payload);
        } else if !lines.is_empty() {
            self.bytes.extend(zstd::bulk::compress(lines, 1).map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

/// Beginning of a header, as the writer writes it.
const BEGINNING: &[u8] = b"{\"execpath\":";

/// A host speaks for itself alone.
fn check(header: &Header, host: &str, boot_id: &str) -> Result<(), String> {
    if token_of(&header.host.hostname).as_deref() != Some(host) {
        return Err("it speaks for another host than its subject names".to_owned());
    }
    if !header.others.is_empty() {
        return Err("it speaks for several hosts".to_owned());
    }
    if header.host.boot_id != boot_id {
        return Err("its boot id is not that of its message id".to_owned());
    }
    Ok(())
}

/// The lines of a batch.
fn text(payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(payload)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    let mut text = Vec::new();
    decoder.take(MAX_BATCH as u64 + 1).read_to_end(&mut text)?;
    if text.len() > MAX_BATCH {
        return Err(io::Error::other(format!("it is longer than {} KiB after decompression", MAX_BATCH >> 10)));
    }
    if !text.ends_with(b"\n") {
        return Err(io::Error::other("it does not end with a whole line"));
    }
    Ok(text)
}
