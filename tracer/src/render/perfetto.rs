//! A trace in the Trace Event Format (JSON), which ui.perfetto.dev opens. A process is a session, its tracks are hops
//! and legs, its arrows are links. Times are microseconds since boot.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{SessionTimeline, Timeline, labels};
use crate::{
    escape,
    model::{BootTime, Link, LinkKind, Part, Session},
    sink::{phrases, view},
};

/// Writes every session.
///
/// # Errors
/// When the writer fails.
pub(super) fn write(timeline: &Timeline, target: &mut dyn Write) -> io::Result<()> {
    let other = json!({
        "host": labels::hosts(&timeline.header),
        "kernel": labels::kernels(&timeline.header),
        "boot": view::moment(timeline.header.anchor, BootTime(0)),
    });
    write!(target, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{other},\"traceEvents\":[")?;
    let mut first = true;
    for (history, number) in timeline.sessions.iter().zip(1..) {
        for event in (Tracks { history, number, timeline }).events() {
            write!(target, "{}\n{event}", if first { "" } else { "," })?;
            first = false;
        }
    }
    writeln!(target, "\n]}}")?;
    target.flush()
}

/// The tracks of one session: the session, its start, and from 2 on hops (even numbers) and legs (odd numbers), so that a
/// leg appears below the hop that it leaves.
struct Tracks<'a> {
    history: &'a SessionTimeline,
    number: usize,
    timeline: &'a Timeline,
}

impl Tracks<'_> {
    fn events(&self) -> Vec<Value> {
        let session = self.history.final_session();
        let id = escape::str(&session.id.0, phrases::NAME);
        let name = format!("{} · {id}", labels::title(&session));
        let mut events = vec![
            self.meta("process_name", 0, json!({ "name": name })),
            self.meta("process_sort_index", 0, json!({ "sort_index": self.number })),
            self.meta("thread_name", 0, json!({ "name": "session" })),
        ];
        let (outcome, _color) = labels::outcome(&session, self.timeline.end);
        let until = self.history.until(self.timeline.end);
        let args = json!({
            "id": id,
            "command": labels::command(&session),
            "outcome": outcome,
            "who": phrases::who(&session),
            "user": phrases::user(&session),
            "complete": session.complete,
            "confidence": session.confidence().map(crate::model::Confidence::token),
        });
        events.push(self.slice(0, &labels::title(&session), session.opened_at.max(BootTime(1)), until, args));
        events.extend(self.start(&session));
        // A slice for each hop, as long as it was known.
        for (part, index) in self.history.hops.iter().zip(0..) {
            let (role, what) = labels::hop(&part.value);
            let track = 2 + 2 * SLOTS * index;
            events.push(self.name(track, &format!("{} {role} · {what}", index + 1)));
            let process = &part.value.process;
            let args = json!({
                "pid": part.value.task.tgid,
                "started_us": micros(BootTime(part.value.task.start_ns())),
                "command": (!process.argv.is_empty())
                    .then(|| escape::command(&process.argv, process.argv_truncated, labels::COMMAND)),
                "netns": process.netns,
            });
            events.push(self.slice(track, &role, part.since, part.until.unwrap_or(until), args));
        }
        // A slice for each leg from its start, and an arrow from hop to hop.
        for (number, part) in self.history.links.iter().enumerate() {
            let link = &part.value.link;
            let (kind, what) = labels::link(link);
            let args = json!({
                "confidence": link.confidence.token(),
                "evidence": labels::evidence(&link.evidence),
                "shared": link.persistent,
                "opened_us": link.tcp.and_then(|ends| ends.begun).map(micros),
                "inode": link.tcp.and_then(|ends| ends.near?.inode),
                "peer_inode": link.tcp.and_then(|ends| ends.far?.inode),
                "bytes_sent": link.tcp.and_then(|ends| ends.sent),
                "bytes_received": link.tcp.and_then(|ends| ends.received),
            });
            let track = self.leg(number, link);
            events.push(self.name(track, &format!("   {kind} {what}")));
            let end = part.until.unwrap_or(until);
            events.push(self.slice(track, &kind, self.history.link_start(part), end, args));
            if link.from != link.to {
                events.extend(self.arrow(number, link, part.since));
            }
        }
        events.extend(self.counters());
        for part in &self.history.gaps {
            let text = labels::gap(self.history, &part.value);
            let args = json!({ "code": part.value.code.token(), "until_us": part.until.map(micros) });
            events.push(json!({
                "ph": "i", "s": "p", "cat": "gap", "name": format!("? {text}"),
                "pid": self.number, "tid": 0, "ts": micros(part.since), "args": args,
            }));
        }
        events
    }

    /// The start in its parts, on a track below the session: each slice ends at the rung that it is named after.
    fn start(&self, session: &Session) -> Vec<Value> {
        let Some(start) = session.waterfall() else { return Vec::new() };
        let slice = |part: &Part| {
            let unseen: Vec<&str> = part.unseen.iter().map(|rung| rung.token()).collect();
            let args = json!({
                "from": part.from.token(), "to": part.to.token(), "state": part.state.token(),
                "lasted_ns": part.lasted.0, "unseen": unseen,
            });
            self.slice(START, part.to.token(), part.begun, part.begun.plus(part.lasted), args)
        };
        std::iter::once(self.name(START, "start")).chain(start.parts.iter().map(slice)).collect()
    }

    /// Byte counters of each leg over time, measured at the end nearer to the client. Legs without measurements have
    /// none.
    fn counters(&self) -> Vec<Value> {
        let (from, until) = (self.history.reported, self.history.until(self.timeline.end));
        let mut events = Vec::new();
        for (number, part) in self.history.links.iter().enumerate() {
            let (kind, what) = labels::link(&part.value.link);
            for sample in self.timeline.samples.of(labels::near(&part.value.link), from, until) {
                let queues = json!({ "recv_q": sample.recv_q, "send_q": sample.send_q });
                let moved = sample.moved.map(|(sent, received)| json!({ "sent": sent, "received": received }));
                for (name, args) in [("queues", Some(queues)), ("bytes", moved)] {
                    events.extend(args.map(|args| json!({
                        "ph": "C", "cat": "measure", "name": format!("{name}: {kind} {what}"),
                        "id": format!("{}.{number}", self.number), "pid": self.number, "ts": micros(sample.at), "args": args,
                    })));
                }
            }
        }
        events
    }

    fn leg(&self, number: usize, link: &Link) -> usize {
        let before = self.history.links[..number].iter().filter(|part| part.value.link.from == link.from).count();
        2 + 2 * SLOTS * link.from + 1 + 2 * before.min(SLOTS - 1)
    }

    fn meta(&self, what: &str, track: usize, args: Value) -> Value {
        json!({ "ph": "M", "name": what, "pid": self.number, "tid": track, "args": args })
    }

    fn name(&self, track: usize, name: &str) -> Value {
        self.meta("thread_name", track, json!({ "name": name }))
    }

    fn slice(&self, track: usize, name: &str, from: BootTime, until: BootTime, args: Value) -> Value {
        let (ts, end) = (micros(from), micros(until.max(from)));
        json!({
            "ph": "X", "cat": "execpath", "name": name, "pid": self.number, "tid": track, "ts": ts, "dur": end - ts, "args": args,
        })
    }

    /// The arrow of a link. It starts when the link and both hops are known.
    fn arrow(&self, number: usize, link: &Link, known: BootTime) -> [Value; 2] {
        let at = |hop: usize| self.history.hops.get(hop).map_or(known, |hop| hop.since.max(known));
        let ts = micros(at(link.from).max(at(link.to)));
        let name = if link.kind == LinkKind::Tcp && link.persistent { "shared" } else { link.kind.token() };
        let id = format!("{}.{number}", self.number);
        let event = |ph: &str, hop: usize| {
            json!({
                "ph": ph, "cat": "link", "name": name, "id": id, "bp": "e",
                "pid": self.number, "tid": 2 + 2 * SLOTS * hop, "ts": ts,
            })
        };
        [event("s", link.from), event("f", link.to)]
    }
}

/// Track of the start: between the session's and those of the hops.
const START: usize = 1;
/// Tracks for legs below one hop; further legs share the last track.
const SLOTS: usize = 16;

/// Microseconds since boot. A double is exact to the microsecond for 285 years.
fn micros(at: BootTime) -> f64 {
    at.0 as f64 / 1_000.0
}
