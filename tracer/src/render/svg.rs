//! One self-contained SVG drawing: no script, no external resource, legible on light and dark backgrounds.

use std::io::{self, Write};

use svg::{
    Document, Node,
    node::{
        Text as Words,
        element::{Circle, Description, Group, Path, Rectangle, Style, Text, Title},
    },
};

use super::{
    SessionTimeline, Timeline, labels,
    layout::{self, Area, Connector, Form, NetnsBox, Shape},
};
use crate::{
    escape,
    model::{Confidence, Link, LinkKind},
    sink::{Header, phrases, view},
};

/// Colours of both schemes, and fonts.
const STYLE: &str = include_str!("page/picture.css");
/// Space around a drawing, and between two drawings.
const MARGIN: u32 = 20;
/// Height of a text line above a picture.
const LINE: u32 = 22;
/// Least width of a drawing: the lines above a picture need this room.
const NARROWEST: u32 = 640;
/// Width of a character, in tenths: 12 px of the widest common sans-serif.
const LETTER: u32 = 68;

/// Draws every session.
///
/// # Errors
/// When the writer fails.
pub(super) fn write(timeline: &Timeline, target: &mut dyn Write) -> io::Result<()> {
    let drawings: Vec<Drawing> = timeline.sessions.iter().map(|history| Drawing::new(timeline, history)).collect();
    let width = drawings.iter().map(|drawing| drawing.width).max().unwrap_or(NARROWEST) + 2 * MARGIN;
    let mut top = MARGIN;
    let mut all = Group::new();
    for drawing in drawings {
        let height = drawing.height;
        all.append(drawing.group.set("transform", format!("translate({MARGIN} {top})")));
        top += height + 2 * MARGIN;
    }
    if timeline.sessions.is_empty() {
        all.append(text(MARGIN, top + LINE, "title", "no session in this recording"));
        top += 2 * LINE;
    }
    let title = format!("Paths of kubectl exec: {}", phrases::counted(timeline.sessions.len() as u64, "session"));
    let document = Document::new()
        .set("width", width)
        .set("height", top)
        .set("viewBox", (0, 0, width, top))
        .set("role", "img")
        .set("class", "execpath")
        .add(Title::new(title))
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("class", "ground").set("width", width).set("height", top))
        .add(all);
    writeln!(target, "{document}")
}

/// The drawing of one session.
struct Drawing {
    group: Group,
    width: u32,
    height: u32,
}

impl Drawing {
    fn new(timeline: &Timeline, history: &SessionTimeline) -> Self {
        let history = history.without_retracted();
        let session = history.final_session();
        let shape = layout::shape(&history, Form::Wide);
        let width = shape.w.max(NARROWEST);
        let room = width * 10 / LETTER;
        let (outcome, _color) = labels::outcome(&session, timeline.end);
        let opened = view::moment(timeline.header.anchor, session.opened_at);
        let id = escape::str(&session.id.0, phrases::NAME);
        let mut head = vec![("title", labels::title(&session)), ("note", format!("{id} · {opened} · {outcome}"))];
        head.extend(phrases::command(&session, room as usize).map(|command| ("code", format!("$ {command}"))));
        head.extend(phrases::who(&session).map(|who| ("note", format!("who: {who}"))));
        head.extend(phrases::user(&session).map(|user| ("note", format!("user: {user}"))));
        let mut group = Group::new().set("class", "session");
        group.append(Description::new().add(Words::new(description(&history))));
        let mut y = 0;
        for (class, line) in head {
            y += LINE;
            group.append(text(0, y, class, &labels::cut(&line, room)));
        }
        y += MARGIN / 2;
        group.append(paint(&timeline.header, &history, &shape).set("transform", format!("translate(0 {y})")));
        y += shape.h;
        for gap in &session.gaps {
            for (index, line) in wrapped(&phrases::gap_words(&session, gap), room).iter().enumerate() {
                y += LINE;
                let mark = if index == 0 { "? " } else { "   " };
                group.append(text(0, y, "gap", &format!("{mark}{line}")));
            }
        }
        Self { group, width, height: y }
    }
}

/// The path as a sentence, for screen readers.
fn description(history: &SessionTimeline) -> String {
    let hops: Vec<String> =
        history.hops.iter().map(|hop| labels::hop(&hop.value)).map(|(role, what)| format!("{role}, {what}")).collect();
    format!("The path: {}.", hops.join("; then "))
}

fn paint(header: &Header, history: &SessionTimeline, shape: &Shape) -> Group {
    let mut all = Group::new();
    for place in &shape.places {
        all.append(paint_place(header, history, place));
    }
    for ((side, address), area) in history.session.beyond.iter().zip(&shape.beyond) {
        all.append(boxed(*area, 12, "beyond"));
        let side = escape::str(side, phrases::NAME);
        all.append(text(area.x + 14, area.y + 28, "place-title", &format!("{side}, not on this host")));
        all.append(text(area.x + 14, area.y + 48, "small", &address.to_string()));
    }
    for line in &shape.lines {
        let link = line.link.map(|index| &history.links[index].value.link);
        all.append(paint_line(line, link, shape));
    }
    for (index, area) in shape.hops.iter().enumerate() {
        all.append(paint_hop(history, index, *area));
    }
    all
}

fn paint_place(header: &Header, history: &SessionTimeline, place: &NetnsBox) -> Group {
    let (title, netns) = labels::place(header, history, place.hops.0, place.hops.1);
    let Area { x, y, w, .. } = place.area;
    let (left, room) = (place.title, (w - 14 - (place.title - x)) * 10 / 74);
    Group::new()
        .add(boxed(place.area, 12, "place"))
        .add(text(left, y + 22, "place-title", &labels::cut(&title, room)))
        .add(text(left, y + 38, "small", &netns))
}

fn paint_hop(history: &SessionTimeline, index: usize, area: Area) -> Group {
    let (role, what) = labels::hop(&history.hops[index].value);
    let Area { x, y, w, .. } = area;
    let room = (w - 50) * 10 / 59;
    let mut group = Group::new()
        .add(boxed(area, 8, "hop"))
        .add(Circle::new().set("class", "number").set("cx", x + 22).set("cy", y + 28).set("r", 12))
        .add(text(x + 22, y + 32, "number-text", &(index + 1).to_string()).set("text-anchor", "middle"))
        .add(text(x + 42, y + 25, "role", &role))
        .add(text(x + 42, y + 43, "small", &labels::cut(&what, room)));
    let inside =
        history.links.iter().map(|edge| &edge.value.link).filter(|link| link.from == index && link.to == index);
    for (link, row) in inside.zip(0..) {
        let line = format!("⇄ {} · {}", labels::evidence(&link.evidence), link.confidence.token());
        let class = format!("small {}", confidence_class(Some(link)));
        group.append(text(x + 14, y + 64 + row * 20, &class, &labels::cut(&line, (w - 28) * 10 / 62)));
    }
    group
}

fn paint_line(line: &Connector, link: Option<&Link>, shape: &Shape) -> Group {
    let class = if line.hops.is_some() { confidence_class(link) } else { "away" };
    let mut group = Group::new().set("class", class);
    group.append(Path::new().set("class", "line").set("d", line.path.as_str()));
    for (x, y) in [line.ends.0, line.ends.1] {
        group.append(Circle::new().set("class", "end").set("cx", x).set("cy", y).set("r", 4));
    }
    if line.room == 0 {
        return group;
    }
    let (first, second) = match link {
        Some(link) if line.centred => labels::link_between(link),
        Some(link) => labels::link(link),
        None => ("?".to_owned(), "no link is proved".to_owned()),
    };
    // A line that passes other hops names its target.
    let second = match link {
        Some(link) if link.to > link.from + 1 && link.kind != LinkKind::Relay => {
            format!("down to {}  {second}", link.to + 1)
        }
        _ => second,
    };
    let anchor = if line.centred { "middle" } else { "start" };
    let (x, y) = line.words;
    for (class, row, words) in [("kind", 0, first), ("small", 14, second)] {
        group.append(text(x, y + row, class, &labels::cut(&words, line.room)).set("text-anchor", anchor));
    }
    debug_assert!(x < shape.w, "label starts outside of the picture");
    group
}

/// CSS class for the confidence of a link.
fn confidence_class(link: Option<&Link>) -> &'static str {
    match link.map(|link| (link.confidence, link.persistent)) {
        Some((Confidence::Exact, false)) => "exact",
        Some((Confidence::Exact, true)) => "exact shared",
        Some((Confidence::Strong, _)) => "strong",
        Some((Confidence::Weak, _)) => "weak",
        None => "hole",
    }
}

fn boxed(area: Area, radius: u32, class: &str) -> Rectangle {
    let Area { x, y, w, h } = area;
    Rectangle::new().set("class", class).set("x", x).set("y", y).set("width", w).set("height", h).set("rx", radius)
}

fn text(x: u32, y: u32, class: &str, words: &str) -> Text {
    Text::new(words).set("class", class).set("x", x).set("y", y)
}

/// Breaks text between words into lines of at most `room` characters.
fn wrapped(text: &str, room: u32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room as usize => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(labels::cut(word, room)),
        }
    }
    lines
}
