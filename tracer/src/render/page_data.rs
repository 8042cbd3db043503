//! The data of the page as JSON. Every text is escaped for display; times are microseconds since the first finding.
//! Unknown and unmeasured values are null, never 0. Shapes and sentences are stored once and referenced by index, since
//! many sessions share them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    labels,
    layout::{self, Form, Shape},
    samples::Sample,
    timeline::{Edge, SessionTimeline, Timed, Timeline},
};
use crate::{
    escape,
    explain::{self, Explanation, Step},
    model::{BootTime, Health, LinkKind, Part, Rung, Session, State, Unit, Verdict, unit_of_loss},
    sink::{
        color::Color,
        diagnosis,
        phrases::{self, NAME},
    },
};

/// The root of the data.
#[derive(Serialize)]
pub(super) struct PageData {
    /// Names of the hosts.
    host: String,
    /// Their kernels.
    kernel: String,
    /// UTC of time 0, in milliseconds since 1970.
    origin_ms: f64,
    end: i64,
    lost: Vec<String>,
    notes: Vec<String>,
    sessions: Vec<SessionView>,
    shapes: Vec<Shape>,
    sentences: Vec<String>,
}

/// An explanation. Its sentences are indices; commands stay inline.
#[derive(Serialize)]
struct ExplanationView {
    title: String,
    what: usize,
    why: usize,
    known: Vec<usize>,
    unknown: Vec<usize>,
    manual: Vec<(String, usize)>,
}

#[derive(Serialize)]
struct SessionView {
    id: String,
    kind: &'static str,
    into: Option<String>,
    command: Option<String>,
    who: Option<String>,
    user: Option<String>,
    open: bool,
    older: bool,
    opened: i64,
    /// Keeps its former key, which scripts of saved pages read.
    #[serde(rename = "told")]
    reported: i64,
    until: i64,
    lasted: String,
    outcome: String,
    tone: &'static str,
    health: Option<&'static str>,
    faults: Vec<FaultView>,
    complete: bool,
    confidence: Option<&'static str>,
    say: Option<ExplanationView>,
    wide: usize,
    tall: usize,
    places: Vec<(String, String)>,
    beyond: Vec<Beyond>,
    hops: Vec<HopView>,
    links: Vec<LinkView>,
    gaps: Vec<GapView>,
    start: Vec<PartView>,
}

/// A part of the start: the rung at its end, its beginning, its length in nanoseconds, and the rungs in it that were not
/// seen.
#[derive(Serialize)]
struct PartView {
    from: &'static str,
    to: &'static str,
    state: &'static str,
    at: i64,
    lasted_ns: u64,
    unseen: Vec<&'static str>,
}

/// A fault and its span of time; `until` is null if it lasted to the end.
#[derive(Serialize)]
struct FaultView {
    what: String,
    since: Option<i64>,
    until: Option<i64>,
}

#[derive(Serialize)]
struct Beyond {
    side: String,
    address: String,
    say: Option<ExplanationView>,
}

/// The time span in which a part was known, and the time at which it came about.
#[derive(Serialize)]
struct Span {
    since: i64,
    until: Option<i64>,
    at: i64,
}

#[derive(Serialize)]
struct HopView {
    role: String,
    what: String,
    started: i64,
    #[serde(flatten)]
    span: Span,
    say: Option<ExplanationView>,
}

#[derive(Serialize)]
struct LinkView {
    from: usize,
    to: usize,
    kind: &'static str,
    what: String,
    /// The same without addresses, for a narrow line.
    short: String,
    shared: bool,
    #[serde(flatten)]
    span: Span,
    /// Start, confidence and evidence of each proof.
    proofs: Vec<(i64, &'static str, String)>,
    inodes: Option<(Option<u64>, Option<u64>)>,
    /// TCP alone: bytes towards the process and towards the client. Known once the connection is closed.
    bytes: Option<(Option<u64>, Option<u64>)>,
    near: Vec<SampleView>,
    far: Vec<SampleView>,
    say: Option<ExplanationView>,
}

/// Time; bytes not read and not acknowledged; bytes sent and received in total; round trip in microseconds.
type SampleView = (i64, u32, u32, Option<u64>, Option<u64>, Option<u64>);

#[derive(Serialize)]
struct GapView {
    text: String,
    hops: Option<(usize, usize)>,
    #[serde(flatten)]
    span: Span,
    say: Option<ExplanationView>,
}

impl PageData {
    pub(super) fn new(timeline: &Timeline) -> Self {
        let origin = timeline.sessions.iter().map(|history| history.reported).min().unwrap_or(timeline.end);
        let mut builder = Builder { timeline, origin, shapes: Interner::default(), sentences: Interner::default() };
        let sessions = timeline.sessions.iter().map(|history| builder.session(history)).collect();
        let mut notes: Vec<String> =
            timeline.header.degraded.iter().map(|one| escape::str(&one.text, phrases::TEXT)).collect();
        if timeline.samples.left_out > 0 {
            notes.push(format!(
                "{} were left out: there are more than a page holds",
                phrases::counted(timeline.samples.left_out, "later measure")
            ));
        }
        let anchor = timeline.header.anchor;
        let of_none = |fault: &Verdict| format!("Of no session: {}", diagnosis::line(fault, anchor, " to the end"));
        notes.extend(timeline.faults.iter().map(of_none));
        // A delay counts milliseconds rather than records: it becomes a note.
        let is_delay = |what: &str| unit_of_loss(what) == Unit::Milliseconds;
        let lost = timeline.totals.lost.iter().filter(|(what, count)| **count > 0 && !is_delay(what));
        let delays = timeline.totals.lost.iter().filter(|(what, _)| is_delay(what));
        notes.extend(delays.map(|(what, count)| phrases::loss(what, *count)));
        let origin_ms = timeline.header.anchor.utc_ns(origin) as f64 / 1e6;
        Self {
            host: labels::hosts(&timeline.header),
            kernel: labels::kernels(&timeline.header),
            origin_ms,
            end: builder.time(timeline.end),
            lost: lost.map(|(what, count)| format!("{}: {count}", escape::str(what, NAME))).collect(),
            notes,
            sessions,
            shapes: builder.shapes.kept,
            sentences: builder.sentences.kept,
        }
    }
}

/// Values that are stored once, each with a number.
struct Interner<T> {
    kept: Vec<T>,
    at: BTreeMap<String, usize>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), at: BTreeMap::new() }
    }
}

impl<T> Interner<T> {
    /// Returns the number of `thing`, and stores it if `key` is new. Equal keys must mean equal things.
    fn number(&mut self, key: String, thing: T) -> usize {
        let next = self.kept.len();
        let number = *self.at.entry(key).or_insert(next);
        if number == next {
            self.kept.push(thing);
        }
        number
    }
}

struct Builder<'a> {
    timeline: &'a Timeline,
    origin: BootTime,
    shapes: Interner<Shape>,
    sentences: Interner<String>,
}

impl Builder<'_> {
    fn time(&self, at: BootTime) -> i64 {
        let micros = |span: crate::model::Span| i64::try_from(span.0 / 1_000).unwrap_or(i64::MAX);
        if at >= self.origin { micros(at.since(self.origin)) } else { -micros(self.origin.since(at)) }
    }

    fn sentence(&mut self, text: &str) -> usize {
        self.sentences.number(text.to_owned(), text.to_owned())
    }

    fn shape(&mut self, history: &SessionTimeline, form: Form) -> usize {
        let shape = layout::shape(history, form);
        self.shapes.number(format!("{shape:?}"), shape)
    }

    fn say(&mut self, session: &Session, step: Step) -> Option<ExplanationView> {
        let Explanation { title, what, why, known, unknown, manual } = explain::explain(session, step)?;
        Some(ExplanationView {
            title,
            what: self.sentence(&what),
            why: self.sentence(&why),
            known: known.iter().map(|text| self.sentence(text)).collect(),
            unknown: unknown.iter().map(|text| self.sentence(text)).collect(),
            manual: manual.into_iter().map(|manual| (manual.command, self.sentence(&manual.shows))).collect(),
        })
    }

    /// Builds the views of hops, links or gaps. Only parts that still hold are explained.
    fn parts<T, V>(
        &mut self,
        parts: &[Timed<T>],
        session: &Session,
        step: fn(usize) -> Step,
        view: impl Fn(&Self, usize, &Timed<T>, Option<ExplanationView>) -> V,
    ) -> Vec<V> {
        // An explanation addresses the final session, which counts only parts that still hold.
        let mut held = 0;
        let mut views = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let say = if part.holds() { self.say(session, step(held)) } else { None };
            held += usize::from(part.holds());
            views.push(view(self, index, part, say));
        }
        views
    }

    fn session(&mut self, history: &SessionTimeline) -> SessionView {
        let last = history.final_session();
        let end = self.timeline.end;
        let (outcome, color) = labels::outcome(&last, end);
        let wide = self.shape(history, Form::Wide);
        let shape = layout::shape(history, Form::Wide);
        let header = &self.timeline.header;
        let places =
            shape.places.iter().map(|place| labels::place(header, history, place.hops.0, place.hops.1)).collect();
        let ends = last.beyond.iter().enumerate();
        let beyond: Vec<Beyond> = ends
            .map(|(index, (side, address))| Beyond {
                side: escape::str(side, NAME),
                address: address.to_string(),
                say: self.say(&last, Step::Beyond(index)),
            })
            .collect();
        SessionView {
            id: escape::str(&last.id.0, NAME),
            kind: last.kind.token(),
            into: phrases::into(&last),
            command: labels::command(&last),
            who: phrases::who(&last),
            user: phrases::user(&last),
            open: last.state == State::Open,
            older: last.preexisting,
            opened: self.time(last.opened_at),
            reported: self.time(history.reported),
            until: self.time(history.until(end)),
            lasted: phrases::lasted(last.closed_at.unwrap_or(end).since(last.opened_at)),
            outcome,
            tone: tone(color),
            health: Some(history.health).filter(|health| *health != Health::Unknown).map(Health::short),
            faults: history.faults.iter().map(|fault| self.fault(fault)).collect(),
            complete: last.complete,
            confidence: last.confidence().map(crate::model::Confidence::token),
            beyond,
            say: self.say(&last, Step::Session),
            wide,
            tall: self.shape(history, Form::Tall),
            places,
            hops: self.parts(&history.hops, &last, Step::Hop, |builder, index, part, say| {
                let (role, what) = labels::hop(&part.value);
                let started = builder.time(BootTime(part.value.task.start_ns()));
                HopView { role, what, started, span: builder.span(part, history.hop_start(index)), say }
            }),
            links: self
                .parts(&history.links, &last, Step::Link, |builder, _, part, say| builder.link(history, part, say)),
            gaps: self.parts(&history.gaps, &last, Step::Gap, |builder, _, part, say| GapView {
                text: labels::gap(history, &part.value),
                hops: part.value.between,
                span: builder.span(part, part.since),
                say,
            }),
            start: self.start(&last),
        }
    }

    fn start(&self, session: &Session) -> Vec<PartView> {
        let parts = session.waterfall().map(|start| start.parts).unwrap_or_default();
        let view = |part: Part| PartView {
            from: part.from.token(),
            to: part.to.token(),
            state: part.state.token(),
            at: self.time(part.begun),
            lasted_ns: part.lasted.0,
            unseen: part.unseen.into_iter().map(Rung::token).collect(),
        };
        parts.into_iter().map(view).collect()
    }

    fn fault(&self, fault: &Verdict) -> FaultView {
        let time = |at: Option<BootTime>| at.map(|at| self.time(at));
        FaultView { what: format!("{} {}", fault.code, fault.name), since: time(fault.since), until: time(fault.until) }
    }

    fn span<T>(&self, part: &Timed<T>, at: BootTime) -> Span {
        Span { since: self.time(part.since), until: part.until.map(|until| self.time(until)), at: self.time(at) }
    }

    fn link(&self, history: &SessionTimeline, part: &Timed<Edge>, say: Option<ExplanationView>) -> LinkView {
        let link = &part.value.link;
        let (near, far) = (labels::near(link), labels::far(link));
        let inode = |socket: Option<crate::model::SocketId>| socket.and_then(|socket| socket.inode);
        let samples = |socket| {
            let taken = self.timeline.samples.of(socket, history.reported, history.until(self.timeline.end));
            taken.map(|sample| self.sample(sample)).collect()
        };
        LinkView {
            from: link.from,
            to: link.to,
            kind: link.kind.token(),
            what: labels::link(link).1,
            short: labels::link_between(link).1,
            shared: link.persistent,
            span: self.span(part, history.link_start(part)),
            proofs: (part.value.proofs.iter())
                .map(|proof| (self.time(proof.since), proof.confidence.token(), labels::evidence(&proof.evidence)))
                .collect(),
            inodes: matches!(link.kind, LinkKind::Tcp | LinkKind::Unix).then(|| (inode(near), inode(far))),
            bytes: link.tcp.map(|ends| (ends.sent, ends.received)),
            near: samples(near),
            far: samples(far),
            say,
        }
    }

    fn sample(&self, sample: &Sample) -> SampleView {
        let (sent, received) = sample.moved.unzip();
        (self.time(sample.at), sample.recv_q, sample.send_q, sent, received, sample.rtt_us)
    }
}

const fn tone(color: Color) -> &'static str {
    match color {
        Color::Good => "good",
        Color::Doubt => "doubt",
        Color::Bad => "bad",
        Color::Bold | Color::Dim | Color::Mark => "plain",
    }
}
