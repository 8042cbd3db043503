//! The data of the page as JSON. Every text is escaped for display; times are microseconds since the first finding.
//! Unknown and unmeasured values are null, never 0. Shapes and sentences are stored once and referenced by index, since
//! many sessions share them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    layout::{self, Form, Shape},
    samples::Sample,
    story::{Part, Story, Tale, Tie},
    words,
};
use crate::{
    escape,
    explain::{self, Explanation, Step},
    model::{BootTime, Health, LinkKind, Session, State, Unit, Verdict, unit_of_loss},
    sink::{
        color::Color,
        diagnosis,
        phrases::{self, NAME},
    },
};

/// The root of the data.
#[derive(Serialize)]
pub(super) struct Island {
    host: String,
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
struct Say {
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
    told: i64,
    until: i64,
    lasted: String,
    outcome: String,
    tone: &'static str,
    health: Option<&'static str>,
    faults: Vec<FaultView>,
    complete: bool,
    confidence: Option<&'static str>,
    say: Option<Say>,
    wide: usize,
    tall: usize,
    places: Vec<(String, String)>,
    beyond: Vec<Beyond>,
    hops: Vec<HopView>,
    links: Vec<LinkView>,
    gaps: Vec<GapView>,
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
    say: Option<Say>,
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
    say: Option<Say>,
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
    say: Option<Say>,
}

/// Time; bytes not read and not acknowledged; bytes sent and received in total; round trip in microseconds.
type SampleView = (i64, u32, u32, Option<u64>, Option<u64>, Option<u64>);

#[derive(Serialize)]
struct GapView {
    text: String,
    hops: Option<(usize, usize)>,
    #[serde(flatten)]
    span: Span,
    say: Option<Say>,
}

impl Island {
    pub(super) fn new(story: &Story) -> Self {
        let origin = story.tales.iter().map(|tale| tale.told).min().unwrap_or(story.end);
        let mut maker = Maker { story, origin, shapes: Shelf::default(), sentences: Shelf::default() };
        let sessions = story.tales.iter().map(|tale| maker.session(tale)).collect();
        let host = &story.header.host;
        let mut notes: Vec<String> =
            story.header.degraded.iter().map(|one| escape::str(&one.text, phrases::TEXT)).collect();
        if story.samples.left_out > 0 {
            notes.push(format!(
                "{} were left out: there are more than a page holds",
                phrases::counted(story.samples.left_out, "later measure")
            ));
        }
        let anchor = story.header.anchor;
        let of_none = |fault: &Verdict| format!("Of no session: {}", diagnosis::line(fault, anchor, " to the end"));
        notes.extend(story.faults.iter().map(of_none));
        // A delay counts milliseconds rather than records: it becomes a note.
        let is_delay = |what: &str| unit_of_loss(what) == Unit::Milliseconds;
        let lost = story.totals.lost.iter().filter(|(what, count)| **count > 0 && !is_delay(what));
        let delays = story.totals.lost.iter().filter(|(what, _)| is_delay(what));
        notes.extend(delays.map(|(what, count)| phrases::loss(what, *count)));
        let origin_ms = story.header.anchor.utc_ns(origin) as f64 / 1e6;
        Self {
            host: escape::str(&host.hostname, NAME),
            kernel: escape::str(&host.kernel, NAME),
            origin_ms,
            end: maker.time(story.end),
            lost: lost.map(|(what, count)| format!("{}: {count}", escape::str(what, NAME))).collect(),
            notes,
            sessions,
            shapes: maker.shapes.kept,
            sentences: maker.sentences.kept,
        }
    }
}

/// Values that are stored once, each with a number.
struct Shelf<T> {
    kept: Vec<T>,
    at: BTreeMap<String, usize>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), at: BTreeMap::new() }
    }
}

impl<T> Shelf<T> {
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

struct Maker<'a> {
    story: &'a Story,
    origin: BootTime,
    shapes: Shelf<Shape>,
    sentences: Shelf<String>,
}

impl Maker<'_> {
    fn time(&self, at: BootTime) -> i64 {
        let micros = |span: crate::model::Span| i64::try_from(span.0 / 1_000).unwrap_or(i64::MAX);
        if at >= self.origin { micros(at.since(self.origin)) } else { -micros(self.origin.since(at)) }
    }

    fn sentence(&mut self, text: &str) -> usize {
        self.sentences.number(text.to_owned(), text.to_owned())
    }

    fn shape(&mut self, tale: &Tale, form: Form) -> usize {
        let shape = layout::shape(tale, form);
        self.shapes.number(format!("{shape:?}"), shape)
    }

    fn say(&mut self, session: &Session, step: Step) -> Option<Say> {
        let Explanation { title, what, why, known, unknown, manual } = explain::explain(session, step)?;
        Some(Say {
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
        parts: &[Part<T>],
        session: &Session,
        step: fn(usize) -> Step,
        view: impl Fn(&Self, usize, &Part<T>, Option<Say>) -> V,
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

    fn session(&mut self, tale: &Tale) -> SessionView {
        let last = tale.last();
        let end = self.story.end;
        let (outcome, color) = words::outcome(&last, end);
        let wide = self.shape(tale, Form::Wide);
        let shape = layout::shape(tale, Form::Wide);
        let header = &self.story.header;
        let places = shape.places.iter().map(|place| words::place(header, tale, place.hops.0, place.hops.1)).collect();
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
            command: words::command(&last),
            who: phrases::who(&last),
            user: phrases::user(&last),
            open: last.state == State::Open,
            older: last.preexisting,
            opened: self.time(last.opened_at),
            told: self.time(tale.told),
            until: self.time(tale.until(end)),
            lasted: phrases::lasted(last.closed_at.unwrap_or(end).since(last.opened_at)),
            outcome,
            tone: tone(color),
            health: Some(tale.health).filter(|health| *health != Health::Unknown).map(Health::short),
            faults: tale.faults.iter().map(|fault| self.fault(fault)).collect(),
            complete: last.complete,
            confidence: last.confidence().map(crate::model::Confidence::token),
            beyond,
            say: self.say(&last, Step::Session),
            wide,
            tall: self.shape(tale, Form::Tall),
            places,
            hops: self.parts(&tale.hops, &last, Step::Hop, |maker, index, part, say| {
                let (role, what) = words::hop(&part.what);
                let started = maker.time(BootTime(part.what.task.start_ns()));
                HopView { role, what, started, span: maker.span(part, tale.joined(index)), say }
            }),
            links: self.parts(&tale.links, &last, Step::Link, |maker, _, part, say| maker.link(tale, part, say)),
            gaps: self.parts(&tale.gaps, &last, Step::Gap, |maker, _, part, say| GapView {
                text: words::gap(tale, &part.what),
                hops: part.what.between,
                span: maker.span(part, part.since),
                say,
            }),
        }
    }

    fn fault(&self, fault: &Verdict) -> FaultView {
        let time = |at: Option<BootTime>| at.map(|at| self.time(at));
        FaultView { what: format!("{} {}", fault.code, fault.name), since: time(fault.since), until: time(fault.until) }
    }

    fn span<T>(&self, part: &Part<T>, at: BootTime) -> Span {
        Span { since: self.time(part.since), until: part.until.map(|until| self.time(until)), at: self.time(at) }
    }

    fn link(&self, tale: &Tale, part: &Part<Tie>, say: Option<Say>) -> LinkView {
        let link = &part.what.link;
        let (near, far) = (words::near(link), words::far(link));
        let inode = |socket: Option<crate::model::SocketId>| socket.and_then(|socket| socket.inode);
        let samples = |socket| {
            let taken = self.story.samples.of(socket, tale.told, tale.until(self.story.end));
            taken.map(|sample| self.sample(sample)).collect()
        };
        LinkView {
            from: link.from,
            to: link.to,
            kind: link.kind.token(),
            what: words::link(link).1,
            short: words::link_between(link).1,
            shared: link.persistent,
            span: self.span(part, tale.begun(part)),
            proofs: (part.what.proofs.iter())
                .map(|proof| (self.time(proof.since), proof.confidence.token(), words::evidence(&proof.evidence)))
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
