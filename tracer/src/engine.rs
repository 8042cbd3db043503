//! The pump: observations → (recorder) → correlator → filter → sinks. The same for a live trace and a replay, which is why
//! both print the same.

use std::{collections::BTreeSet, io};

use regex::bytes::Regex;

use crate::{
    correlate::{Correlator, Options},
    diagnose,
    model::{
        BootTime, Change, Depth, Finding, Kind, Observation, RawText, Report, Scope, Session, SessionId, State,
        WatchAs, parse_runc_exec,
    },
    record::{self, Reader, Writer},
    sink::{self, Sink},
};

/// Which kinds of session to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// What people start: all but what the kubelet starts by itself.
    #[default]
    People,
    /// All.
    All,
    /// One.
    Only(Kind),
}

impl Kinds {
    fn hold(self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::People => kind.is_of_people(),
            Self::Only(only) => kind == only,
        }
    }
}

/// Which sessions to show. Names match whole; a session whose name is not known matches no name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Name of the pod.
    pub pod: Option<String>,
    /// Name of the container.
    pub container: Option<String>,
    /// Kind.
    pub kinds: Kinds,
}

impl Filter {
    /// Whether this session is asked for.
    #[must_use]
    pub fn matches(&self, session: &Session) -> bool {
        let target = &session.target;
        let asked = |asked: &Option<String>, known: &Option<String>| asked.is_none() || asked == known;
        self.kinds.hold(session.kind)
            && asked(&self.namespace, &target.namespace)
            && asked(&self.pod, &target.pod)
            && asked(&self.container, &target.container)
    }
}

/// Applies a filter over time: names often become known only after a session has opened, so that the first change that
/// matches is told as the opening. What was shown once is shown to its end.
#[derive(Debug, Default)]
struct Selection {
    filter: Filter,
    shown: BTreeSet<SessionId>,
}

impl Selection {
    fn pass(&mut self, finding: Finding) -> Vec<Finding> {
        let at = finding.at;
        let (session, over) = match finding.change {
            Change::Opened(session) | Change::Changed(session) if !self.shown.contains(&session.id) => (session, false),
            Change::Closed(session) if !self.shown.contains(&session.id) => (session, true),
            change @ (Change::Opened(_) | Change::Changed(_) | Change::Loss { .. }) => {
                return vec![Finding { at, change }];
            }
            Change::Closed(session) => {
                self.shown.remove(&session.id);
                return vec![Finding { at, change: Change::Closed(session) }];
            }
        };
        if !self.filter.matches(&session) {
            return Vec::new();
        }
        if over {
            let opened = Session { state: State::Open, closed_at: None, exit: None, ..(*session).clone() };
            let opened = Finding { at, change: Change::Opened(Box::new(opened)) };
            return vec![opened, Finding { at, change: Change::Closed(session) }];
        }
        self.shown.insert(session.id.clone());
        vec![Finding { at, change: Change::Opened(session) }]
    }
}

/// What stands in the place of a secret.
const REDACTED: &[u8] = b"***";

/// Takes secrets out of arguments, before correlator and recorder alike.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Drop all arguments but the first, the program.
    pub no_args: bool,
    /// Replace what matches, in each argument by itself.
    pub patterns: Vec<Regex>,
}

impl Redactor {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.no_args && self.patterns.is_empty()
    }

    /// Redacts one observation. The arguments of the runtime's own `runc exec` stay: ids and paths that prove a link, while
    /// the command itself is in a file.
    pub fn redact(&self, seen: &mut Observation) {
        if self.is_idle() {
            return;
        }
        if let Some((command, truncated)) = seen.fact.request_mut() {
            self.redact_words(command, truncated);
        }
        let Some(process) = seen.fact.process_mut() else { return };
        let is_below = process.watched == Some(WatchAs::Below);
        if is_below && parse_runc_exec(&process.argv).is_some() {
            return;
        }
        self.redact_words(&mut process.argv, &mut process.argv_truncated);
    }

    fn redact_words(&self, words: &mut Vec<RawText>, truncated: &mut bool) {
        if self.no_args && words.len() > 1 {
            words.truncate(1);
            *truncated = true;
        }
        for pattern in &self.patterns {
            for word in words.iter_mut() {
                if pattern.is_match(word.as_bytes()) {
                    *word =
                        RawText::from(pattern.replace_all(word.as_bytes(), regex::bytes::NoExpand(REDACTED)).as_ref());
                }
            }
        }
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Enough was seen.
    Stop,
}

impl Flow {
    /// Stops when either does.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Stop => self,
            Self::Continue => other,
        }
    }
}

/// What was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Sessions that passed the filter.
    pub sessions: u64,
    /// Sessions that there were.
    pub of: u64,
}

/// How things stand.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where.
    pub header: sink::Header,
    /// Sessions that are open and asked for, what they rest on, what was measured of it, and what is wrong.
    pub report: Report,
}

impl Seen {
    /// Of a report, what is open and asked for. What is wrong is decided on all that is open: one's fault is told from
    /// everybody's by the others.
    #[must_use]
    pub fn of(header: sink::Header, mut report: Report, filter: &Filter) -> Self {
        report.sessions.retain(|session| session.state == State::Open);
        report.diagnosis = diagnose::diagnosis(&report);
        report.sessions.retain(|session| filter.matches(session));
        Self { header, report }
    }
}

/// What to measure of the sessions that are open: for a list briefly, those asked for; for a diagnosis whole, all of them and
/// what belongs to none.
#[must_use]
pub fn to_measure(report: &Report, depth: Depth, filter: &Filter) -> Scope {
    let deep = depth == Depth::Whole;
    let is_measured = |session: &&Session| session.state == State::Open && (deep || filter.matches(session));
    let measured: Vec<Session> = report.sessions.iter().filter(is_measured).cloned().collect();
    let scope = Scope::of(&measured, depth);
    if deep { scope.with_others(report) } else { scope }
}

/// When enough was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Never: somebody else says when.
    #[default]
    Told,
    /// A session closed or is complete (`--once`).
    Complete,
    /// A session closed.
    Closed,
}

/// What a pump is made of.
pub struct Setup {
    /// Which sessions to show.
    pub filter: Filter,
    /// What to take out of arguments.
    pub redactor: Redactor,
    /// When to stop.
    pub until: Until,
    /// Where to show it.
    pub sinks: Vec<Box<dyn Sink>>,
}

/// Takes observations in, and shows what follows.
pub struct Pump {
    correlator: Correlator,
    selection: Selection,
    redactor: Redactor,
    until: Until,
    sinks: Vec<Box<dyn Sink>>,
    recorder: Option<Writer>,
    header: sink::Header,
    /// Whether the header was shown.
    begun: bool,
    shown: u64,
    told: u64,
}

impl Pump {
    /// Ready to pump. Nothing is shown before [`Pump::begin`].
    #[must_use]
    pub fn new(setup: Setup, header: sink::Header, options: &Options, recorder: Option<Writer>) -> Self {
        let Setup { filter, redactor, until, sinks } = setup;
        let correlator = Correlator::new(&header.host, options);
        let selection = Selection { filter, shown: BTreeSet::new() };
        Self { correlator, selection, redactor, until, sinks, recorder, header, begun: false, shown: 0, told: 0 }
    }

    /// Shows the header, then what was found so far; from now on findings are shown as they come. A reader of a live trace
    /// may rely on it: what happens after the header was shown is seen.
    ///
    /// # Errors
    /// When a sink cannot write.
    pub fn begin(&mut self) -> io::Result<Flow> {
        if !self.begun {
            self.begun = true;
            for sink in &mut self.sinks {
                sink.host(&self.header)?;
            }
        }
        self.show()
    }

    /// Takes in one observation.
    ///
    /// # Errors
    /// When a sink or the recording cannot be written.
    pub fn take(&mut self, mut seen: Observation) -> io::Result<Flow> {
        self.redactor.redact(&mut seen);
        if let Some(recorder) = &mut self.recorder {
            recorder.write(&seen)?;
            recorder.tick(seen.at)?;
        }
        self.correlator.ingest(&seen);
        if seen.fact.is_measure() {
            for sink in &mut self.sinks {
                sink.measured(&seen)?;
            }
        }
        self.show()
    }

    /// Questions that came up: to be answered by observations.
    pub fn wants(&mut self) -> Vec<crate::model::Want> {
        self.correlator.wants()
    }

    /// Whether reads of FIFOs would tell something.
    #[must_use]
    pub fn needs_reads(&self) -> bool {
        self.correlator.needs_reads()
    }

    /// Up to when everything was taken in that will come.
    #[must_use]
    pub fn settled(&self) -> BootTime {
        self.correlator.settled()
    }

    /// Whether time should be told soon: something waits for it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.correlator.is_waiting()
    }

    /// How things stand now, by what was taken in.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen::of(self.header.clone(), self.correlator.report(), &self.selection.filter)
    }

    /// How many changes were shown: where it grows, [`Pump::seen`] has something new.
    #[must_use]
    pub const fn told(&self) -> u64 {
        self.told
    }

    /// Whether a session is open, asked for or not.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        self.correlator.is_anything_open()
    }

    /// What to measure, for a diagnosis.
    #[must_use]
    pub fn to_measure(&self) -> Scope {
        to_measure(&self.correlator.report(), Depth::Whole, &self.selection.filter)
    }

    /// Shows the rest and ends the recording. The last observation should have been [`crate::model::Fact::Stopped`].
    ///
    /// # Errors
    /// When a sink or the recording cannot be written.
    pub fn finish(mut self) -> io::Result<Shown> {
        self.correlator.flush();
        self.begin()?;
        let report = self.correlator.report();
        let sessions =
            report.sessions.iter().filter(|session| self.selection.filter.matches(session)).cloned().collect();
        let of = report.totals.opened;
        let report = Report { sessions, ..report };
        for sink in &mut self.sinks {
            sink.finish(&report)?;
        }
        if let Some(recorder) = self.recorder {
            recorder.finish()?;
        }
        Ok(Shown { sessions: self.shown, of })
    }

    fn show(&mut self) -> io::Result<Flow> {
        let mut flow = Flow::Continue;
        if !self.begun {
            return Ok(flow);
        }
        for finding in self.correlator.drain() {
            for finding in self.selection.pass(finding) {
                self.told += 1;
                self.shown += u64::from(matches!(finding.change, Change::Opened(_)));
                for sink in &mut self.sinks {
                    sink.change(&finding)?;
                }
                if self.until.is_reached(&finding.change) {
                    flow = Flow::Stop;
                }
            }
        }
        Ok(flow)
    }
}

impl Until {
    const fn is_reached(self, change: &Change) -> bool {
        match (self, change) {
            (Self::Told, _) | (_, Change::Loss { .. }) => false,
            (Self::Complete | Self::Closed, Change::Closed(_)) => true,
            (Self::Complete, Change::Opened(session) | Change::Changed(session)) => {
                session.complete && !session.client.pending
            }
            (Self::Closed, Change::Opened(_) | Change::Changed(_)) => false,
        }
    }
}

/// Shows a recording. How it ended is [`Reader::end`]'s to tell.
///
/// # Errors
/// When a sink cannot write.
pub fn replay(reader: &mut Reader, setup: Setup) -> io::Result<Shown> {
    let record::Header { anchor, host, abilities, degraded, options, .. } = reader.header().clone();
    let header = sink::Header { anchor, host, abilities, degraded };
    let record::Settings { apiserver_port, kubelet_port, runtime_socket, .. } = options;
    let mut pump = Pump::new(setup, header, &Options { apiserver_port, kubelet_port, runtime_socket }, None);
    pump.begin()?;
    for seen in reader.by_ref() {
        if pump.take(seen)? == Flow::Stop {
            break;
        }
        // The answers are in the recording.
        drop(pump.wants());
    }
    pump.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fact;
    use crate::model::{AuditEvent, AuditRequest, AuditUser, ProcessInfo, Source, Subresource, Target, TaskKey};

    fn session(pod: Option<&str>) -> Box<Session> {
        Box::new(Session {
            id: SessionId("s-1".into()),
            kind: Kind::Exec,
            state: State::Open,
            opened_at: BootTime(1),
            closed_at: None,
            last_seen: BootTime(1),
            preexisting: false,
            merged_into: None,
            target: Target { pod: pod.map(str::to_owned), ..Target::default() },
            client: Default::default(),
            command: Vec::new(),
            command_truncated: false,
            tty: None,
            stdin: None,
            exec_id: None,
            exit: None,
            hops: Vec::new(),
            links: Vec::new(),
            beyond: Vec::new(),
            gaps: Vec::new(),
            complete: false,
        })
    }

    fn names(selection: &mut Selection, change: Change) -> Vec<&'static str> {
        let findings = selection.pass(Finding { at: BootTime(2), change });
        let name = |finding: Finding| match finding.change {
            Change::Opened(_) => "opened",
            Change::Changed(_) => "changed",
            Change::Closed(_) => "closed",
            Change::Loss { .. } => "loss",
        };
        findings.into_iter().map(name).collect()
    }

    #[test]
    fn a_session_opens_for_the_reader_when_it_first_matches() {
        let filter = Filter { pod: Some("web".into()), ..Filter::default() };
        let mut selection = Selection { filter, ..Selection::default() };
        assert!(names(&mut selection, Change::Opened(session(None))).is_empty());
        assert_eq!(names(&mut selection, Change::Changed(session(Some("web")))), ["opened"]);
        assert_eq!(names(&mut selection, Change::Changed(session(Some("web")))), ["changed"]);
        assert_eq!(names(&mut selection, Change::Closed(session(Some("web")))), ["closed"]);
        assert_eq!(names(&mut selection, Change::Closed(session(Some("web")))), ["opened", "closed"]);
        assert!(names(&mut selection, Change::Closed(session(Some("web-1")))).is_empty());
        assert_eq!(names(&mut selection, Change::Loss { what: "ring".into(), count: 1 }), ["loss"]);
    }

    #[test]
    fn probes_are_shown_when_asked_for() {
        let mut probe = session(None);
        probe.kind = Kind::Probe;
        for (kinds, shown) in [(Kinds::People, false), (Kinds::Only(Kind::Probe), true), (Kinds::All, true)] {
            assert_eq!(Filter { kinds, ..Filter::default() }.matches(&probe), shown);
        }
    }

    fn redacted(redactor: &Redactor, words: &[&str], watched: WatchAs) -> (Vec<String>, bool) {
        let argv = words.iter().map(|word| RawText::from(*word)).collect();
        let process = Box::new(ProcessInfo { argv, watched: Some(watched), ..ProcessInfo::default() });
        let task = TaskKey::from_ticks(1, 1);
        let mut seen = Observation::of(BootTime(1), Source::Ebpf, task, Fact::Exec(process));
        redactor.redact(&mut seen);
        let Fact::Exec(process) = seen.fact else { return Default::default() };
        (process.argv.iter().map(|word| word.to_text().into_owned()).collect(), process.argv_truncated)
    }

    fn requested(command: &[&str]) -> Fact {
        Fact::Audited(Box::new(AuditEvent {
            id: "a".into(),
            received: BootTime(1),
            written: BootTime(1),
            over: false,
            code: None,
            older: false,
            sources: Vec::new(),
            user: AuditUser::default(),
            request: AuditRequest {
                subresource: Subresource::Exec,
                namespace: "default".into(),
                pod: "web".into(),
                container: None,
                command: command.iter().map(|word| RawText::from(*word)).collect(),
                command_truncated: false,
                stdin: false,
                tty: false,
            },
        }))
    }

    #[test]
    fn secrets_go_and_what_proves_links_stays() {
        let pattern = Redactor { no_args: false, patterns: vec![Regex::new("(token|password)=[^ ]+").unwrap()] };
        let none = Redactor { no_args: true, patterns: Vec::new() };
        let curl = ["curl", "-d", "a token=$1abc b", "password=x"];
        assert_eq!(
            redacted(&pattern, &curl, WatchAs::Contained),
            (["curl", "-d", "a *** b", "***"].map(str::to_owned).into(), false)
        );
        assert_eq!(redacted(&none, &curl, WatchAs::Contained), (vec!["curl".to_owned()], true));
        assert_eq!(redacted(&none, &["sh"], WatchAs::Contained), (vec!["sh".to_owned()], false));
        let runc = ["runc", "exec", "--process", "/tmp/token=p", "--pid-file", "/x/e.pid", "c"];
        for redactor in [&pattern, &none] {
            assert_eq!(redacted(redactor, &runc, WatchAs::Below).0, runc);
            assert_ne!(redacted(redactor, &runc, WatchAs::Endpoint).0, runc, "anybody can have such arguments");
        }
        let kubectl = ["kubectl", "exec", "db", "--", "mysql", "-p", "hunter2", "db"];
        for watched in [WatchAs::Endpoint, WatchAs::Below] {
            assert_eq!(redacted(&none, &kubectl, watched).0, ["kubectl"]);
        }
        for (redactor, left) in [(&pattern, &["sh", "***"][..]), (&none, &["sh"])] {
            let mut seen = Observation::new(BootTime(1), Source::Snapshot, requested(&["sh", "token=x"]));
            redactor.redact(&mut seen);
            let (command, truncated) = seen.fact.request_mut().expect("a request");
            assert_eq!(
                (&command[..], *truncated),
                (&left.iter().map(|word| RawText::from(*word)).collect::<Vec<_>>()[..], redactor.no_args)
            );
        }
    }
}
