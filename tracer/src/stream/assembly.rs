//! From messages to recordings: one recording for each host, its messages in order and each once. Knows no network.

use std::collections::{BTreeMap, btree_map::Entry};

use super::joined::{Added, Joined, begins_part};
use crate::record::Header;

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

/// A message that is kept.
struct Kept {
    position: u64,
    stored_ns: u64,
    payload: Vec<u8>,
}

/// Messages of one run, in order.
struct RunFeed {
    id: String,
    /// Messages by number: position and payload.
    messages: BTreeMap<u64, Kept>,
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

    /// Takes a message, whatever it takes: discards the oldest messages of the host that has most. Returns the number of
    /// discarded messages by host; a host beyond the last one that can be kept is not taken.
    pub fn take_and_discard(&mut self, message: Message<'_>) -> BTreeMap<String, u64> {
        let mut discarded = BTreeMap::new();
        while !self.take(message) {
            let largest = self.hosts.iter_mut().max_by_key(|(_, feed)| feed.bytes);
            let Some((name, feed)) = largest.filter(|_| self.bytes + weight(message.payload) > MAX_BYTES) else {
                *discarded.entry(message.host.to_owned()).or_default() += 1;
                break;
            };
            let before = feed.bytes;
            *discarded.entry(name.clone()).or_default() += feed.discard_half();
            self.bytes -= before - feed.bytes;
        }
        discarded
    }

    /// The recordings, by host.
    #[must_use]
    pub fn finish(self) -> Vec<HostRecording> {
        self.recordings().into_iter().map(|(recording, _)| recording).collect()
    }

    /// The recordings so far, by host, and what follows each.
    #[must_use]
    pub fn recordings(&self) -> Vec<(HostRecording, Tail)> {
        self.hosts.iter().map(|(host, feed)| feed.recording(host)).collect()
    }

    /// Drops messages stored before a time that no recording from then on needs, and hosts that were not heard since.
    pub fn forget(&mut self, before_ns: u64) {
        self.hosts.retain(|_, feed| feed.last_ns >= before_ns);
        self.hosts.values_mut().for_each(|feed| feed.forget(before_ns));
        self.bytes = self.hosts.values().map(|feed| feed.bytes).sum();
    }
}

impl HostFeed {
    fn damaged(&mut self, position: u64, why: impl Into<String>) {
        self.tally.damaged += 1;
        self.tally.damage = Some((position, why.into()));
    }

    fn take(&mut self, message: Message<'_>) {
        let Message { id, position, stored_ns, payload, .. } = message;
        let number = id.rsplit_once('.').and_then(|(run, number)| Some((run, number.parse::<u64>().ok()?)));
        let Some((run, number)) = number.filter(|_| id.len() <= MAX_ID) else {
            return self.damaged(position, "its id is not one of execpath");
        };
        let index = self.runs.iter().position(|one| one.id == run).unwrap_or_else(|| {
            if self.runs.len() >= MAX_RUNS
                && let Some((oldest, _)) = self.runs.iter().enumerate().min_by_key(|(_, one)| one.last)
            {
                let gone = self.runs.swap_remove(oldest);
                self.bytes -= gone.messages.values().map(|kept| weight(&kept.payload)).sum::<usize>();
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
                place.insert(Kept { position, stored_ns, payload: payload.to_vec() });
            }
        }
    }

    /// The recording of the last run, and what follows it.
    fn recording(&self, host: &str) -> (HostRecording, Tail) {
        let newest = self.runs.iter().max_by_key(|run| run.last);
        let mut tally = self.tally.clone();
        tally.earlier += self.runs.iter().map(|run| run.messages.len() as u64).sum::<u64>()
            - newest.map_or(0, |run| run.messages.len() as u64);
        let mut bytes = Vec::new();
        let mut tail = Tail { host: host.to_owned(), ..Tail::default() };
        if let Some(run) = newest {
            tail.run.clone_from(&run.id);
            let mut next = None;
            for (number, Kept { position, payload, .. }) in &run.messages {
                if let Some(missing) = next.map(|next| number - next).filter(|missing| *missing > 0) {
                    tally.missing += missing;
                    bytes.clear();
                    tail.joined = Joined::default();
                }
                next = number.checked_add(1);
                let damage = match tail.add(payload) {
                    Ok(Added::Nothing) => None,
                    Ok(Added::Whole(_)) => {
                        bytes.extend_from_slice(payload);
                        None
                    }
                    Ok(Added::Lines(lines)) if lines.is_empty() => None,
                    Ok(Added::Lines(lines)) => match zstd::bulk::compress(&lines, 1) {
                        Ok(frame) => {
                            bytes.extend(frame);
                            None
                        }
                        Err(error) => Some(error.to_string()),
                    },
                    Err(why) => Some(why),
                };
                if let Some(why) = damage {
                    tally.damaged += 1;
                    tally.damage = Some((*position, why));
                    bytes.clear();
                    tail.joined = Joined::default();
                }
            }
            tail.next = next;
        }
        (HostRecording { host: host.to_owned(), bytes, last_ns: self.last_ns, tally }, tail)
    }

    /// Drops earlier runs; without one, the older half of the messages, up to the next beginning of a part. Returns their
    /// number.
    fn discard_half(&mut self) -> u64 {
        let newest = self.runs.iter().map(|run| run.last).max();
        let (mut kept, earlier): (Vec<RunFeed>, Vec<RunFeed>) =
            std::mem::take(&mut self.runs).into_iter().partition(|run| Some(run.last) == newest);
        let mut dropped: Vec<BTreeMap<u64, Kept>> = earlier.into_iter().map(|run| run.messages).collect();
        if let (true, Some(run)) = (dropped.is_empty(), kept.first_mut()) {
            let middle = run.messages.keys().nth(run.messages.len() / 2).copied().unwrap_or_default();
            let part =
                run.messages.range(middle..).find(|(_, one)| begins_part(&one.payload)).map(|(number, _)| *number);
            // Without a part, nothing before the next one can be read.
            let rest = part.map_or_else(BTreeMap::new, |number| run.messages.split_off(&number));
            dropped.push(std::mem::replace(&mut run.messages, rest));
            kept.retain(|run| !run.messages.is_empty());
        }
        self.runs = kept;
        let gone = || dropped.iter().flat_map(BTreeMap::values);
        self.bytes -= gone().map(|one| weight(&one.payload)).sum::<usize>();
        gone().count() as u64
    }

    /// Drops messages stored before a time, if a later part begins before it as well.
    fn forget(&mut self, before_ns: u64) {
        let newest = self.runs.iter().map(|run| run.last).max();
        let (kept, bytes) = (std::mem::take(&mut self.runs), &mut self.bytes);
        self.runs = kept
            .into_iter()
            .filter_map(|mut run| {
                let is_newest = Some(run.last) == newest;
                let old = run.messages.iter().rev().skip_while(|(_, one)| one.stored_ns >= before_ns);
                let begins = old.map(|(number, one)| (*number, one)).find(|(_, one)| begins_part(&one.payload));
                let rest = match begins {
                    Some((number, _)) if is_newest => run.messages.split_off(&number),
                    _ if is_newest || run.messages.values().any(|one| one.stored_ns >= before_ns) => return Some(run),
                    _ => BTreeMap::new(),
                };
                let dropped = std::mem::replace(&mut run.messages, rest);
                *bytes -= dropped.values().map(|one| weight(&one.payload)).sum::<usize>();
                (!run.messages.is_empty()).then_some(run)
            })
            .collect();
    }
}

/// What follows the recording of one host.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    host: String,
    /// Run of the recording, as message ids begin with it.
    run: String,
    /// Number of the message that follows; `None` if it has none.
    next: Option<u64>,
    joined: Joined,
}

/// Contribution of a message to a recording that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These lines follow, after those of the messages before.
    Lines(Vec<u8>),
    /// None: the message repeats another one.
    Nothing,
    /// The recording does not go on here: another run begins, messages are missing, or the message is damaged.
    Break,
}

impl Tail {
    /// Host, as in the subject.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Header of the recording; `None` if nothing can be read yet.
    #[must_use]
    pub const fn header(&self) -> Option<&Header> {
        self.joined.header()
    }

    fn add(&mut self, payload: &[u8]) -> Result<Added, String> {
        let boot_id = self.run.rsplit_once('.').map_or("", |(boot_id, _)| boot_id);
        self.joined.add(&self.host, boot_id, payload)
    }

    /// Takes the next message of this host.
    pub fn take(&mut self, id: &str, payload: &[u8]) -> Step {
        let number = id.rsplit_once('.').filter(|(run, _)| *run == self.run);
        let Some(number) = number.and_then(|(_, number)| number.parse::<u64>().ok()) else { return Step::Break };
        match self.next {
            Some(next) if number < next => return Step::Nothing,
            Some(next) if number == next => {}
            Some(_) | None => return Step::Break,
        }
        self.next = number.checked_add(1);
        let was_readable = self.header().is_some();
        match self.add(payload) {
            Ok(Added::Nothing) => Step::Nothing,
            // The recording can be read only now.
            Ok(Added::Whole(_) | Added::Lines(_)) if !was_readable => Step::Break,
            Ok(Added::Whole(lines) | Added::Lines(lines)) => Step::Lines(lines),
            Err(_why) => Step::Break,
        }
    }
}

/// Memory of a message.
const fn weight(payload: &[u8]) -> usize {
    payload.len() + OVERHEAD
}
