//! Matches requests of the audit log with sessions.
//!
//! Request and session share no identifier. A request fits a session if nothing contradicts it: pod, container,
//! command, terminal, client address as the API server saw it, and time.
//!
//! A user is named if all fitting requests have the same user, and if the requests are at least as many as the
//! sessions that they fit. A request that is missing from the log then leaves its session without a user, never
//! with a wrong one. Values that a client can choose, such as request ids and forwarded addresses, prove
//! nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{anchor_id::AnchorId, losses::LossTimes};
use crate::correlate::limits::{AUDIT_SKEW, CLOCK_JITTER, Caps, MAX_AUDIT_FITS, MAX_AUDIT_RIVALS, REMEMBER};
use crate::model::{AuditEvent, AuditRequest, BootTime, Confidence, KubeUser, RawText, Subresource, Target};

/// Query to the audit log about a session.
pub(in crate::correlate) struct UserQuery {
    /// Properties of a fitting request.
    pub(in crate::correlate) criteria: RequestCriteria,
    /// Time by which everything that may contradict an answer is known; `None` while too little of the session
    /// is known.
    pub(in crate::correlate) due: Option<BootTime>,
    /// Set while the path of a new session is still unknown: until then too many foreign requests would fit.
    pub(in crate::correlate) early: bool,
    /// Set when the API server is known to be on the path. Otherwise it may be, which is enough to be a rival of
    /// another session.
    pub(in crate::correlate) via_apiserver: bool,
}

/// Properties of the request that can have started a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct RequestCriteria {
    pub(in crate::correlate) subresources: &'static [Subresource],
    pub(in crate::correlate) target: Arc<Target>,
    pub(in crate::correlate) command: Option<Command>,
    pub(in crate::correlate) tty: Option<bool>,
    pub(in crate::correlate) stdin: Option<bool>,
    /// Client address as the API server sees it.
    pub(in crate::correlate) address: Option<IpAddr>,
    /// Period within which the API server received the request.
    pub(in crate::correlate) between: (BootTime, BootTime),
    /// Set when the start of `between` was observed. Otherwise it is the earliest possible time.
    pub(in crate::correlate) timed: bool,
    /// Time at which the request was still under way. A request that ended before does not fit.
    pub(in crate::correlate) alive_at: BootTime,
    /// Set when the session is older than the tracer.
    pub(in crate::correlate) older: bool,
    /// Set when something was started for the request, so the API server did not refuse it.
    pub(in crate::correlate) started: bool,
    /// Set when kernel records were lost in `between`, so that other requests may fit as well.
    pub(in crate::correlate) doubted: bool,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct Command {
    pub(in crate::correlate) words: Arc<[RawText]>,
    pub(in crate::correlate) truncated: bool,
    pub(in crate::correlate) from: CommandSource,
}

/// Origin of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum CommandSource {
    /// Arguments of the client.
    Client,
    /// First execve in the container.
    Start,
    /// Arguments of a process, which may have run another execve since its start.
    Process,
}

/// Result of the search for a session's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum UserMatch {
    /// No request fits.
    Unknown,
    /// The fitting requests belong to several users, or may belong to other sessions.
    Ambiguous,
    /// All fitting requests belong to this user.
    User(Box<KubeUser>),
}

/// Number of a request; never reused.
type EventIdx = u64;
/// Key of a request: time of receipt, request id and user name. A client may choose a foreign request id; time
/// and user still separate the two requests.
type Key = (BootTime, String, String);

struct Entry {
    event: AuditEvent,
    /// Period within which the request was received, given the accuracy of its clock.
    received: (BootTime, BootTime),
    /// Set when the event was read right after it was written, so that its clock is accurate.
    prompt: bool,
    /// Set when the request can belong to a session older than the tracer. Such a request was in the log before.
    may_be_older: bool,
    /// Latest time at which the request ended.
    over: Option<BootTime>,
    /// Sessions that the request fits.
    sessions: BTreeSet<AnchorId>,
}

struct SessionFits {
    criteria: RequestCriteria,
    /// Fitting requests.
    fits: BTreeMap<EventIdx, Confidence>,
}

#[derive(Default)]
pub(in crate::correlate) struct Audits {
    /// Time at which the log was first read to its end; `None` without a log.
    pub(in crate::correlate) followed: Option<BootTime>,
    /// Set when no further event will arrive.
    pub(in crate::correlate) ended: bool,
    events: BTreeMap<EventIdx, Entry>,
    by_key: BTreeMap<Key, EventIdx>,
    /// Number of the newest request.
    made: EventIdx,
    sessions: BTreeMap<AnchorId, SessionFits>,
    /// Number of pairs of session and fitting request, bounded by [`MAX_AUDIT_FITS`].
    fits: usize,
    /// Requests received up to this time may have been discarded.
    forgotten: Option<BootTime>,
    /// Times of unreadable lines.
    skipped: LossTimes,
    pub(in crate::correlate) caps: Caps,
    /// Requests or fits discarded since [`Audits::take_discarded`] was called.
    discarded: u64,
}

impl Audits {
    /// Notes that lines of the log could not be read.
    pub(in crate::correlate) fn skipped(&mut self, at: BootTime) {
        self.skipped.push_report(at);
    }

    /// Adds a stage of a request. Returns the sessions for which the match has changed.
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
        // The impersonated user is known after the first stage (k8s.io/apiserver: WithAudit precedes
        // WithImpersonation).
        entry.event.user.impersonated = entry.event.user.impersonated.take().or(event.user.impersonated);
        let changes: Vec<(AnchorId, Option<Confidence>)> =
            self.sessions.iter().map(|(id, session)| (id.clone(), session.criteria.fits(entry))).collect();
        let mut touched = BTreeSet::new();
        for (id, fits) in changes {
            self.set_fit(&id, idx, fits, &mut touched);
        }
        touched
    }

    /// Sets the criteria of a session. Returns other sessions for which the match has changed.
    pub(in crate::correlate) fn set_criteria(
        &mut self,
        id: &AnchorId,
        criteria: RequestCriteria,
    ) -> BTreeSet<AnchorId> {
        let mut touched = BTreeSet::new();
        if self.sessions.get(id).is_some_and(|session| session.criteria == criteria) {
            return touched;
        }
        let fits: Vec<(EventIdx, Option<Confidence>)> =
            self.events.iter().map(|(idx, entry)| (*idx, criteria.fits(entry))).collect();
        let session = self
            .sessions
            .entry(id.clone())
            .or_insert(SessionFits { criteria: criteria.clone(), fits: BTreeMap::new() });
        session.criteria = criteria;
        for (idx, fits) in fits {
            self.set_fit(id, idx, fits, &mut touched);
        }
        touched.remove(id);
        touched
    }

    fn set_fit(&mut self, id: &AnchorId, idx: EventIdx, fits: Option<Confidence>, touched: &mut BTreeSet<AnchorId>) {
        let (Some(session), Some(entry)) = (self.sessions.get_mut(id), self.events.get_mut(&idx)) else { return };
        let before = match fits {
            Some(confidence) => session.fits.insert(idx, confidence),
            None => session.fits.remove(&idx),
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
            session.fits.remove(&idx);
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
        // With more rivals none of the sessions has a user, and one rival more or less changes nothing.
        if rivals.min(entry.sessions.len()) <= MAX_AUDIT_RIVALS {
            touched.extend(entry.sessions.iter().cloned());
        }
    }

    /// Drops a session. Returns other sessions for which the match has changed.
    pub(in crate::correlate) fn forget(&mut self, id: &AnchorId) -> BTreeSet<AnchorId> {
        let mut touched = BTreeSet::new();
        let fits: Vec<EventIdx> =
            self.sessions.get(id).map(|session| session.fits.keys().copied().collect()).unwrap_or_default();
        for idx in fits {
            self.set_fit(id, idx, None, &mut touched);
        }
        self.sessions.remove(id);
        touched.remove(id);
        touched
    }

    /// Sessions that a request fits; `None` if the request is unknown or discarded.
    pub(in crate::correlate) fn fits_of(&self, event: &AuditEvent) -> Option<&BTreeSet<AnchorId>> {
        let key = (event.received, event.id.clone(), event.user.name.clone());
        self.by_key.get(&key).and_then(|idx| self.events.get(idx)).map(|entry| &entry.sessions)
    }

    /// True if a request fits this session.
    pub(in crate::correlate) fn has_one(&self, id: &AnchorId) -> bool {
        self.sessions.get(id).is_some_and(|session| !session.fits.is_empty())
    }

    /// The user of a session.
    pub(in crate::correlate) fn user_match(&self, id: &AnchorId) -> UserMatch {
        let Some(session) = self.sessions.get(id) else { return UserMatch::Unknown };
        let entries: Vec<&Entry> = session.fits.keys().filter_map(|idx| self.events.get(idx)).collect();
        let Some(first) = entries.first() else { return UserMatch::Unknown };
        let (from, to) = session.criteria.between;
        // Requests of the period may be missing: discarded, or on unreadable lines.
        let incomplete =
            self.forgotten.is_some_and(|until| from <= until) || self.skipped.between(from, to.plus(AUDIT_SKEW));
        // All requests must agree on the user, and none may fit too many sessions.
        let same = |entry: &&Entry| {
            let (a, b) = (&entry.event.user, &first.event.user);
            (&a.name, &a.groups, &a.impersonated) == (&b.name, &b.groups, &b.impersonated)
        };
        let crowded = |entry: &&Entry| entry.sessions.len() > MAX_AUDIT_RIVALS;
        if incomplete || !entries.iter().all(same) || entries.iter().any(crowded) {
            return UserMatch::Ambiguous;
        }
        // More sessions than requests: at least one session's request is missing.
        let sessions: BTreeSet<&AnchorId> = entries.iter().flat_map(|entry| &entry.sessions).collect();
        if sessions.len() > entries.len() {
            return UserMatch::Ambiguous;
        }
        let mut user = first.event.user.clone();
        if entries.iter().any(|entry| entry.event.user.agent != user.agent) {
            user.agent = None;
        }
        // A refused attempt is by the same user: kubectl falls back from WebSocket to SPDY.
        let accepted: Vec<_> = entries.iter().filter(|entry| !entry.is_refused()).collect();
        let own = match (accepted.as_slice(), sessions.len()) {
            ([one], 1) => Some(one.event.id.clone()),
            _ => None,
        };
        let weakest = session.fits.values().copied().min().unwrap_or(Confidence::Weak);
        let confidence = if own.is_some() { weakest } else { weakest.min(Confidence::Strong) };
        UserMatch::User(Box::new(KubeUser { user, audit_id: own, confidence }))
    }

    /// Forgets requests that ended and fit no session.
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

    /// Requests or fits discarded since the last call. [`Audits::user_match`] accounts for the sessions in
    /// doubt.
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
            if let Some(session) = self.sessions.get_mut(&id) {
                session.fits.remove(&idx);
            }
        }
    }
}

impl Entry {
    fn is_refused(&self) -> bool {
        self.event.code.is_some_and(|code| code >= 400)
    }
}

/// Period in which an event with this time stamp happened. The log is normally written at once and read soon
/// after. An event from the future, or one that is read late, comes from another clock or a delayed log: only
/// the certain bounds count.
fn possible(stamp: BootTime, event: &AuditEvent, read: BootTime) -> (BootTime, BootTime) {
    if event.written > read.plus(CLOCK_JITTER) {
        return (BootTime::default(), read);
    }
    let around = around(stamp);
    if event.older { around } else { (around.0, around.1.max(stamp.plus(read.since(event.written)))) }
}

/// Period in which an event happened if its clock is accurate.
fn around(stamp: BootTime) -> (BootTime, BootTime) {
    (stamp.minus(AUDIT_SKEW), stamp.plus(AUDIT_SKEW))
}

impl RequestCriteria {
    /// Confidence that a request fits; `None` if a property contradicts it.
    fn fits(&self, entry: &Entry) -> Option<Confidence> {
        let (request, (earliest, latest)) = (&entry.event.request, entry.received);
        let in_time = earliest <= self.between.1 && self.between.0 <= latest;
        if !in_time || (self.older && !entry.may_be_older) || !self.subresources.contains(&request.subresource) {
            return None;
        }
        // The request ended too early, or was refused although its command was started.
        if entry.over.is_some_and(|over| over < self.alive_at) || (self.started && entry.is_refused()) {
            return None;
        }
        // Compare the target. Unknown names match.
        let differs = |asked: &str, known: &Option<String>| known.as_ref().is_some_and(|known| known != asked);
        let Target { namespace, pod, container, .. } = &*self.target;
        let elsewhere = differs(&request.namespace, namespace)
            || differs(&request.pod, pod)
            || request.container.as_ref().is_some_and(|asked| differs(asked, container));
        // Addresses claimed by proxies precede the one that the API server saw.
        let seen = entry.event.sources.last().map(IpAddr::to_canonical);
        let from_elsewhere = self.address.zip(seen).is_some_and(|(known, seen)| known != seen);
        if elsewhere || from_elsewhere {
            return None;
        }
        // Every property must be known and equal for an exact match.
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
    /// `Some(true)` if the command equals the request's, `Some(false)` if the request's command can have led to
    /// it, `None` if it cannot.
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

/// True if two commands begin the same, where one or both are cut, possibly in the middle of a word.
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

/// True for a script with `#!`. The kernel puts the interpreter, and at most one argument, before it
/// (fs/binfmt_script.c).
fn is_script(seen: &[RawText], asked: &[RawText]) -> bool {
    let Some((script, arguments)) = asked.split_first() else { return false };
    (1..=2).any(|before| {
        seen.get(before).is_some_and(|word| word.basename() == script.basename())
            && seen.get(before + 1..) == Some(arguments)
    })
}

/// True for the last command of `sh -c`: a shell replaces itself with it.
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
    fn command_agrees_with_request_or_its_successor() {
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
    fn cut_commands_agree_up_to_the_cut() {
        let is = |a: &str, a_cut, b: &str, b_cut| is_start(&words(a), a_cut, &words(b), b_cut);
        assert!(is("sh", true, "sh -c x", false) && is("sh -c abc", false, "sh -c ab", true));
        assert!(is("sh -c ab", true, "sh -c abc d", true));
        assert!(!is("sh -c", false, "sh -c ab", true), "nothing was cut off the first command");
        assert!(!is("sh -x", true, "sh -c x", false) && !is("sh a", true, "sh", false));
        assert!(!is("s -c", true, "sh -c x", false), "only the last word may be cut");
    }
}
