//! Requests of the audit log, and sessions that each may be of.
//!
//! No identity joins the two: a request fits a session where nothing speaks against it (pod, container, command, terminal, the
//! address that the API server saw, time). A user is named where every request that fits is of that user, and there are as many
//! of them as sessions that they fit: one that is missing from the log then leaves its session without a user, and not with
//! another's. What a client can choose (the id of its request, forwarded addresses) proves nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{anchor_id::AnchorId, losses::Losses};
use crate::correlate::limits::{AUDIT_SKEW, CLOCK_JITTER, Caps, MAX_AUDIT_FITS, MAX_AUDIT_RIVALS, REMEMBER};
use crate::model::{AuditEvent, AuditRequest, BootTime, Confidence, KubeUser, RawText, Subresource, Target};

/// What a request must be like to be that of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct Sought {
    pub(in crate::correlate) subresources: &'static [Subresource],
    pub(in crate::correlate) target: Arc<Target>,
    pub(in crate::correlate) command: Option<Command>,
    pub(in crate::correlate) tty: Option<bool>,
    pub(in crate::correlate) stdin: Option<bool>,
    /// The client's address, as the API server sees it.
    pub(in crate::correlate) address: Option<IpAddr>,
    /// The API server had it not before and not after.
    pub(in crate::correlate) between: (BootTime, BootTime),
    /// Whether the earlier of the two was seen; else it is what is possible.
    pub(in crate::correlate) timed: bool,
    /// It was under way then: a request that was over is not its own.
    pub(in crate::correlate) alive_at: BootTime,
    /// It is older than the tracer.
    pub(in crate::correlate) older: bool,
    /// Something was started for it: it was not refused.
    pub(in crate::correlate) started: bool,
    /// Whether records of the kernel were lost meanwhile: then others may fit as well.
    pub(in crate::correlate) doubted: bool,
}

/// The words of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct Command {
    pub(in crate::correlate) words: Arc<[RawText]>,
    pub(in crate::correlate) truncated: bool,
    pub(in crate::correlate) from: CommandSource,
}

/// Where a command was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum CommandSource {
    /// The client's own arguments.
    Client,
    /// The first execve in the container.
    Start,
    /// Arguments of a process that may have run another execve since.
    Process,
}

/// Who is behind a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum UserMatch {
    /// No request fits.
    Unknown,
    /// Requests fit that are, or may be, others'.
    Ambiguous,
    User(Box<KubeUser>),
}

/// Number of an event; never used again.
type EventIdx = u64;
/// When it was received, its id and user: who chooses another's id is told apart by the rest.
type Key = (BootTime, String, String);

struct Entry {
    event: AuditEvent,
    /// When it was received, as far as its clock can be believed.
    received: (BootTime, BootTime),
    /// Whether it can: it was read when it was written.
    prompt: bool,
    /// Whether it may be of a session older than the tracer: what begins such a session was in the log before.
    may_be_older: bool,
    /// The latest that it was over.
    over: Option<BootTime>,
    sessions: BTreeSet<AnchorId>,
}

struct Seeker {
    sought: Sought,
    fits: BTreeMap<EventIdx, Confidence>,
}

#[derive(Default)]
pub(in crate::correlate) struct Audits {
    /// When the log was read up to its end first; `None` where nobody reads one.
    pub(in crate::correlate) followed: Option<BootTime>,
    /// Nothing more will come.
    pub(in crate::correlate) ended: bool,
    events: BTreeMap<EventIdx, Entry>,
    by_key: BTreeMap<Key, EventIdx>,
    made: EventIdx,
    sessions: BTreeMap<AnchorId, Seeker>,
    fits: usize,
    /// Requests received until then may have been forgotten.
    forgotten: Option<BootTime>,
    skipped: Losses,
    pub(in crate::correlate) caps: Caps,
    /// Requests, or fits of one, that were discarded since [`Audits::take_discarded`] was called.
    discarded: u64,
}

impl Audits {
    /// Lines could not be read.
    pub(in crate::correlate) fn skipped(&mut self, at: BootTime) {
        self.skipped.push(at);
    }

    /// Takes in a stage of a request; tells for whom it changes something.
    pub(in crate::correlate) fn take(&mut self, at: BootTime, event: AuditEvent) -> BTreeSet<AnchorId> {
        let over = event.over.then(|| possible(event.written, &event, at).1);
        let received = possible(event.received, &event, at);
        let may_be_older = event.older || event.over;
        let prompt = received == around(event.received);
        let key = (event.received, event.id.clone(), event.user.name.clone());
        let idx = match self.by_key.get(&key) {
            Some(idx) => *idx,
            None => {
                self.make_room();
                self.made += 1;
                self.by_key.insert(key, self.made);
                self.made
            }
        };
        let entry = self.events.entry(idx).or_insert(Entry {
            event: event.clone(),
            received,
            prompt,
            may_be_older,
            over,
            sessions: BTreeSet::new(),
        });
        entry.over = entry.over.or(over);
        entry.event.code = event.code.or(entry.event.code);
        // Who is acted as is known after the first stage (k8s.io/apiserver: WithAudit stands before WithImpersonation).
        entry.event.user.impersonated = entry.event.user.impersonated.take().or(event.user.impersonated);
        let changes: Vec<(AnchorId, Option<Confidence>)> =
            self.sessions.iter().map(|(id, seeker)| (id.clone(), seeker.sought.fits(entry))).collect();
        let mut touched = BTreeSet::new();
        for (id, fits) in changes {
            self.set_fit(&id, idx, fits, &mut touched);
        }
        touched
    }

    /// What a session is like now; tells for whom that changes something.
    pub(in crate::correlate) fn seek(&mut self, id: &AnchorId, sought: Sought) -> BTreeSet<AnchorId> {
        let mut touched = BTreeSet::new();
        if self.sessions.get(id).is_some_and(|seeker| seeker.sought == sought) {
            return touched;
        }
        let fits: Vec<(EventIdx, Option<Confidence>)> =
            self.events.iter().map(|(idx, entry)| (*idx, sought.fits(entry))).collect();
        let seeker =
            self.sessions.entry(id.clone()).or_insert(Seeker { sought: sought.clone(), fits: BTreeMap::new() });
        seeker.sought = sought;
        for (idx, fits) in fits {
            self.set_fit(id, idx, fits, &mut touched);
        }
        touched.remove(id);
        touched
    }

    fn set_fit(&mut self, id: &AnchorId, idx: EventIdx, fits: Option<Confidence>, touched: &mut BTreeSet<AnchorId>) {
        let (Some(seeker), Some(entry)) = (self.sessions.get_mut(id), self.events.get_mut(&idx)) else { return };
        let before = match fits {
            Some(confidence) => seeker.fits.insert(idx, confidence),
            None => seeker.fits.remove(&idx),
        };
        if before == fits {
            return;
        }
        touched.insert(id.clone());
        if before.is_some() == fits.is_some() {
            return;
        }
        let rivals = entry.sessions.len();
        if fits.is_some() && self.fits >= MAX_AUDIT_FITS {
            seeker.fits.remove(&idx);
            self.forgotten = self.forgotten.max(Some(entry.received.1));
            self.discarded += 1;
            return;
        }
        if fits.is_some() {
            entry.sessions.insert(id.clone());
            self.fits += 1;
        } else {
            entry.sessions.remove(id);
            self.fits -= 1;
        }
        // Beyond that none of them has a user, and one more or less changes nothing.
        if rivals.min(entry.sessions.len()) <= MAX_AUDIT_RIVALS {
            touched.extend(entry.sessions.iter().cloned());
        }
    }

    /// It is no session any more; tells for whom that changes something.
    pub(in crate::correlate) fn forget(&mut self, id: &AnchorId) -> BTreeSet<AnchorId> {
        let mut touched = BTreeSet::new();
        let fits: Vec<EventIdx> =
            self.sessions.get(id).map(|seeker| seeker.fits.keys().copied().collect()).unwrap_or_default();
        for idx in fits {
            self.set_fit(id, idx, None, &mut touched);
        }
        self.sessions.remove(id);
        touched.remove(id);
        touched
    }

    /// The sessions that a request fits; `None` where it is not known, or not any more.
    pub(in crate::correlate) fn fits_of(&self, event: &AuditEvent) -> Option<&BTreeSet<AnchorId>> {
        let key = (event.received, event.id.clone(), event.user.name.clone());
        self.by_key.get(&key).and_then(|idx| self.events.get(idx)).map(|entry| &entry.sessions)
    }

    /// Whether any request fits that session.
    pub(in crate::correlate) fn has_one(&self, id: &AnchorId) -> bool {
        self.sessions.get(id).is_some_and(|seeker| !seeker.fits.is_empty())
    }

    /// Who is behind that session.
    pub(in crate::correlate) fn user_match(&self, id: &AnchorId) -> UserMatch {
        let Some(seeker) = self.sessions.get(id) else { return UserMatch::Unknown };
        let entries: Vec<&Entry> = seeker.fits.keys().filter_map(|idx| self.events.get(idx)).collect();
        let Some(first) = entries.first() else { return UserMatch::Unknown };
        let (from, to) = seeker.sought.between;
        let incomplete =
            self.forgotten.is_some_and(|until| from <= until) || self.skipped.between(from, to.plus(AUDIT_SKEW));
        let same = |entry: &&Entry| {
            let (a, b) = (&entry.event.user, &first.event.user);
            (&a.name, &a.groups, &a.impersonated) == (&b.name, &b.groups, &b.impersonated)
        };
        let crowded = |entry: &&Entry| entry.sessions.len() > MAX_AUDIT_RIVALS;
        if incomplete || !entries.iter().all(same) || entries.iter().any(crowded) {
            return UserMatch::Ambiguous;
        }
        let sessions: BTreeSet<&AnchorId> = entries.iter().flat_map(|entry| &entry.sessions).collect();
        if sessions.len() > entries.len() {
            return UserMatch::Ambiguous;
        }
        let mut user = first.event.user.clone();
        if entries.iter().any(|entry| entry.event.user.agent != user.agent) {
            user.agent = None;
        }
        // An attempt that was refused (kubectl falls back from WebSocket to SPDY) is the same person's.
        let accepted: Vec<_> = entries.iter().filter(|entry| !entry.is_refused()).collect();
        let own = match (accepted.as_slice(), sessions.len()) {
            ([one], 1) => Some(one.event.id.clone()),
            _ => None,
        };
        let weakest = seeker.fits.values().copied().min().unwrap_or(Confidence::Weak);
        let confidence = if own.is_some() { weakest } else { weakest.min(Confidence::Strong) };
        UserMatch::User(Box::new(KubeUser { user, audit_id: own, confidence }))
    }

    /// Forgets requests that are over and fit nothing.
    pub(in crate::correlate) fn sweep(&mut self, now: BootTime) {
        let gone: Vec<EventIdx> = self
            .events
            .iter()
            .filter(|(_, entry)| {
                entry.sessions.is_empty() && entry.over.is_some_and(|over| now.since(over) >= REMEMBER)
            })
            .map(|(idx, _)| *idx)
            .collect();
        for idx in gone {
            self.remove(idx);
        }
    }

    /// Requests, or fits of one, that were discarded since the last call. [`Audits::user_match`] knows whose user is in doubt.
    pub(in crate::correlate) fn take_discarded(&mut self) -> u64 {
        std::mem::take(&mut self.discarded)
    }

    fn make_room(&mut self) {
        if self.events.len() < self.caps.requests {
            return;
        }
        self.discarded += 1;
        let unused = self.events.iter().find(|(_, entry)| entry.sessions.is_empty());
        let Some(idx) = unused.or_else(|| self.events.iter().next()).map(|(idx, _)| *idx) else { return };
        if let Some(entry) = self.events.get(&idx) {
            self.forgotten = self.forgotten.max(Some(entry.received.1));
        }
        self.remove(idx);
    }

    fn remove(&mut self, idx: EventIdx) {
        let Some(Entry { event, sessions, .. }) = self.events.remove(&idx) else { return };
        self.by_key.remove(&(event.received, event.id, event.user.name));
        self.fits -= sessions.len();
        for id in sessions {
            if let Some(seeker) = self.sessions.get_mut(&id) {
                seeker.fits.remove(&idx);
            }
        }
    }
}

impl Entry {
    fn is_refused(&self) -> bool {
        self.event.code.is_some_and(|code| code >= 400)
    }
}

/// When that may have been. The log is written at once, and read soon after: what seems to be from the future, or is read late,
/// has another clock or a log that waits, and only what is sure counts.
fn possible(stamp: BootTime, event: &AuditEvent, read: BootTime) -> (BootTime, BootTime) {
    if event.written > read.plus(CLOCK_JITTER) {
        return (BootTime::default(), read);
    }
    let around = around(stamp);
    if event.older { around } else { (around.0, around.1.max(stamp.plus(read.since(event.written)))) }
}

/// The same by a clock that is right.
fn around(stamp: BootTime) -> (BootTime, BootTime) {
    (stamp.minus(AUDIT_SKEW), stamp.plus(AUDIT_SKEW))
}

impl Sought {
    /// How well that request fits; `None` where something speaks against it.
    fn fits(&self, entry: &Entry) -> Option<Confidence> {
        let (request, (earliest, latest)) = (&entry.event.request, entry.received);
        let in_time = earliest <= self.between.1 && self.between.0 <= latest;
        if !in_time || (self.older && !entry.may_be_older) || !self.subresources.contains(&request.subresource) {
            return None;
        }
        if entry.over.is_some_and(|over| over < self.alive_at) || (self.started && entry.is_refused()) {
            return None;
        }
        let differs = |asked: &str, known: &Option<String>| known.as_ref().is_some_and(|known| known != asked);
        let Target { namespace, pod, container, .. } = &*self.target;
        let elsewhere = differs(&request.namespace, namespace)
            || differs(&request.pod, pod)
            || request.container.as_ref().is_some_and(|asked| differs(asked, container));
        // What proxies claim stands before it.
        let seen = entry.event.sources.last().map(IpAddr::to_canonical);
        let from_elsewhere = self.address.zip(seen).is_some_and(|(known, seen)| known != seen);
        if elsewhere || from_elsewhere {
            return None;
        }
        let mut sure = entry.prompt && self.timed && !self.doubted && pod.is_some() && namespace.is_some();
        sure &= self.address.is_some() && seen.is_some();
        if request.subresource == Subresource::Exec {
            let otherwise = |known: Option<bool>, asked: bool| known.is_some_and(|known| known != asked);
            if otherwise(self.tty, request.tty) || otherwise(self.stdin, request.stdin) {
                return None;
            }
            sure &= match &self.command {
                Some(command) => command.agrees(request)?,
                None => false,
            };
        }
        Some(if sure { Confidence::Exact } else { Confidence::Strong })
    }
}

impl Command {
    /// Whether this is what was asked for, to the last word; `None` where it is not.
    fn agrees(&self, request: &AuditRequest) -> Option<bool> {
        let (seen, asked) = (&self.words[..], &request.command[..]);
        if self.truncated || request.command_truncated {
            return is_start(seen, self.truncated, asked, request.command_truncated).then_some(false);
        }
        if seen == asked {
            return Some(true);
        }
        let other = match self.from {
            CommandSource::Client => false,
            CommandSource::Start => is_script(seen, asked),
            CommandSource::Process => is_script(seen, asked) || is_last_of_shell(seen, asked),
        };
        other.then_some(false)
    }
}

/// Whether two commands begin the same, where one or both are cut: in the middle of a word, too.
fn is_start(a: &[RawText], a_cut: bool, b: &[RawText], b_cut: bool) -> bool {
    let shared = a.len().min(b.len());
    if (!a_cut && a.len() < b.len()) || (!b_cut && b.len() < a.len()) {
        return false;
    }
    a.iter().zip(b).enumerate().all(|(at, (one, other))| {
        let cut = |cut: bool, len: usize| cut && at + 1 == len && len == shared;
        one == other
            || (cut(a_cut, a.len()) && other.as_bytes().starts_with(one.as_bytes()))
            || (cut(b_cut, b.len()) && one.as_bytes().starts_with(other.as_bytes()))
    })
}

/// A script with `#!`: the kernel puts its interpreter, and at most one argument, before it (fs/binfmt_script.c).
fn is_script(seen: &[RawText], asked: &[RawText]) -> bool {
    let Some((script, arguments)) = asked.split_first() else { return false };
    (1..=2).any(|before| {
        seen.get(before).is_some_and(|word| word.basename() == script.basename())
            && seen.get(before + 1..) == Some(arguments)
    })
}

/// A shell runs the last command of `-c` in its own place.
fn is_last_of_shell(seen: &[RawText], asked: &[RawText]) -> bool {
    let [_, flag, script] = asked else { return false };
    let words: Vec<&[u8]> = seen.iter().map(RawText::as_bytes).collect();
    flag.as_bytes().starts_with(b"-")
        && flag.as_bytes().ends_with(b"c")
        && script.as_bytes().ends_with(&words.join(&b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<RawText> {
        line.split_whitespace().map(RawText::from).collect()
    }

    fn agrees(from: CommandSource, seen: &str, asked: &[&str]) -> Option<bool> {
        let request = AuditRequest {
            subresource: Subresource::Exec,
            namespace: String::new(),
            pod: String::new(),
            container: None,
            command: asked.iter().map(|word| RawText::from(*word)).collect(),
            command_truncated: false,
            stdin: false,
            tty: false,
        };
        Command { words: words(seen).into(), truncated: false, from }.agrees(&request)
    }

    #[test]
    fn a_command_is_what_was_asked_for_or_what_became_of_it() {
        assert_eq!(agrees(CommandSource::Client, "ls -l", &["ls", "-l"]), Some(true));
        assert_eq!(agrees(CommandSource::Client, "ls -l", &["ls"]), None);
        let script = |seen| agrees(CommandSource::Start, seen, &["run.sh", "a"]);
        assert_eq!(script("/bin/sh /usr/bin/run.sh a"), Some(false));
        assert_eq!(script("/bin/sh -e /usr/bin/run.sh a"), Some(false));
        assert_eq!(script("/bin/sh /usr/bin/other.sh a"), None);
        assert_eq!(agrees(CommandSource::Client, "/bin/sh /usr/bin/run.sh a", &["run.sh", "a"]), None);
        let shell = ["sh", "-c", "cd /; sleep 5"];
        assert_eq!(agrees(CommandSource::Process, "sleep 5", &shell), Some(false));
        assert_eq!(agrees(CommandSource::Process, "sleep 6", &shell), None);
        assert_eq!(agrees(CommandSource::Start, "sleep 5", &shell), None);
    }

    #[test]
    fn cut_commands_agree_as_far_as_they_go() {
        let is = |a: &str, a_cut, b: &str, b_cut| is_start(&words(a), a_cut, &words(b), b_cut);
        assert!(is("sh", true, "sh -c x", false) && is("sh -c abc", false, "sh -c ab", true));
        assert!(is("sh -c ab", true, "sh -c abc d", true));
        assert!(!is("sh -c", false, "sh -c ab", true), "nothing was cut off it");
        assert!(!is("sh -x", true, "sh -c x", false) && !is("sh a", true, "sh", false));
        assert!(!is("s -c", true, "sh -c x", false), "only the last word is cut");
    }
}
