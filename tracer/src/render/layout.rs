//! Where things stand in the picture of a session: positions alone, no words, so that sessions of one shape share one layout and
//! every painter draws the same.
//!
//! A place is what hops share: a network namespace. Places that a connection leads to stand beside each other, those on the same
//! machine below each other; hops stand below each other in their place, in the order of the path.

use serde::Serialize;

use super::story::Tale;
use crate::model::{Hop, Link, LinkKind};

/// How wide a picture may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Places beside each other.
    Wide,
    /// All below each other, for a narrow screen.
    Tall,
}

/// A rectangle, in units of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Area {
    /// Left edge.
    pub(super) x: u32,
    /// Upper edge.
    pub(super) y: u32,
    /// Width.
    pub(super) w: u32,
    /// Height.
    pub(super) h: u32,
}

/// What hops share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    /// Where it is.
    pub(super) area: Area,
    /// Left end of its title, beside the lines that come in from above.
    pub(super) title: u32,
    /// First and last of its hops.
    pub(super) hops: (usize, usize),
}

/// A line between two hops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// Index of a link; `None` of two neighbours that no link joins.
    pub(super) link: Option<usize>,
    /// The hops that it joins, or that nothing joins; `None` where it leaves this host.
    pub(super) hops: Option<(usize, usize)>,
    /// From where to where, as `d` of an SVG path.
    pub(super) path: String,
    /// Where it begins and ends.
    pub(super) ends: ((u32, u32), (u32, u32)),
    /// Left end of its words, and the base line of the first of two; its middle, where `centred`.
    pub(super) words: (u32, u32),
    /// Whether words are centred.
    pub(super) centred: bool,
    /// Letters that fit.
    pub(super) room: u32,
}

/// A picture without its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shape {
    /// Width of all.
    pub(super) w: u32,
    /// Height of all.
    pub(super) h: u32,
    /// What hops share.
    pub(super) places: Vec<Place>,
    /// Each hop.
    pub(super) hops: Vec<Area>,
    /// Each address at which the path leaves this host.
    pub(super) beyond: Vec<Area>,
    /// What joins them; relays are words inside their hop.
    pub(super) lines: Vec<Line>,
}

/// Space around everything.
const MARGIN: u32 = 12;
/// Between a place and its hops.
const PAD: u32 = 14;
/// Of a place's two lines of title.
const TITLE: u32 = 48;
/// Between places beside each other: two short lines of words fit.
const GAP: u32 = 112;
/// Two lines of words of one link below another.
const WORDS: u32 = 34;
/// Above and below the words between two hops.
const AIR: u32 = 12;
/// Height of a hop with two lines, and of each relay in it.
const HOP: u32 = 56;
const RELAY: u32 = 20;
/// Between lines beside each other.
const RAIL: u32 = 18;
/// Width of a letter of a link's words, in tenths: 11 px of the widest sans-serif that is common.
const LETTER: u32 = 68;

/// How a hop stands to the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Same,
    Below,
    Beside,
}

/// Lays a tale out.
#[must_use]
pub(super) fn shape(tale: &Tale, form: Form) -> Shape {
    Layout::new(tale, form).done()
}

struct Layout<'a> {
    tale: &'a Tale,
    form: Form,
    column: u32,
    shape: Shape,
}

impl<'a> Layout<'a> {
    fn new(tale: &'a Tale, form: Form) -> Self {
        let column = match form {
            Form::Wide => 248,
            Form::Tall => 440,
        };
        let shape = Shape { w: 0, h: 0, places: Vec::new(), hops: Vec::new(), beyond: Vec::new(), lines: Vec::new() };
        Self { tale, form, column, shape }
    }

    fn links(&self) -> impl Iterator<Item = (usize, &'a Link)> + use<'a> {
        self.tale.links.iter().map(|tie| &tie.what.link).enumerate()
    }

    fn between(&self, from: usize, to: usize) -> Vec<usize> {
        self.links().filter(|(_, link)| link.from == from && link.to == to).map(|(index, _)| index).collect()
    }

    fn done(mut self) -> Shape {
        let beyond = &self.tale.session.beyond;
        let (mut x, mut y) = (MARGIN, MARGIN);
        let client = beyond.iter().filter(|(side, _)| *side == "client").count();
        for _ in 0..client {
            self.outside(&mut x, &mut y);
        }
        for index in 0..self.tale.hops.len() {
            self.hop(index, &mut x, &mut y);
        }
        for _ in client..beyond.len() {
            self.beside(&mut x, &mut y, 1);
            self.outside(&mut x, &mut y);
        }
        self.lines(client);
        let areas = self.shape.places.iter().map(|place| place.area).chain(self.shape.beyond.iter().copied());
        let (w, h) = areas.fold((0, 0), |(w, h), area| (w.max(area.x + area.w), h.max(area.y + area.h)));
        Shape { w: w + MARGIN, h: h + MARGIN, ..self.shape }
    }

    /// Goes to where the next place beside the last one begins.
    fn beside(&self, x: &mut u32, y: &mut u32, rows: u32) {
        match self.form {
            Form::Wide => (*x, *y) = (*x + self.column + GAP, MARGIN),
            Form::Tall => *y += WORDS * rows + 2 * AIR,
        }
    }

    /// How many lines go down or out from a hop: one at least, if only to say that nothing is proved.
    fn leaving(&self, from: usize) -> u32 {
        let links = self.links().filter(|(_, link)| link.from == from && link.to > from).count();
        u32::try_from(links.max(1)).unwrap_or(1)
    }

    fn outside(&mut self, x: &mut u32, y: &mut u32) {
        let first = self.shape.hops.is_empty();
        // Beside hops, its line leaves it at their height.
        let h = match self.form {
            Form::Wide => TITLE + HOP,
            Form::Tall => TITLE + PAD,
        };
        let area = Area { x: *x, y: *y, w: self.column, h };
        self.shape.beyond.push(area);
        *y += area.h;
        if first {
            self.beside(x, y, 1);
        }
    }

    fn hop(&mut self, index: usize, x: &mut u32, y: &mut u32) {
        let spanning = index.checked_sub(1).map(|before| self.between(before, index)).unwrap_or_default();
        let step = index.checked_sub(1).map(|before| self.step(before, index, &spanning));
        let rows = index.checked_sub(1).map_or(0, |before| self.leaving(before));
        let words = WORDS * rows + 2 * AIR;
        match step {
            Some(Step::Same) => *y += words,
            Some(Step::Below) => *y += PAD + words + TITLE,
            Some(Step::Beside) => {
                *y += PAD;
                self.beside(x, y, rows);
                *y += TITLE;
            }
            None => *y += TITLE,
        }
        let relays = u32::try_from(self.between(index, index).len()).unwrap_or(0);
        let area = Area { x: *x + PAD, y: *y, w: self.column - 2 * PAD, h: HOP + RELAY * relays };
        self.shape.hops.push(area);
        *y += area.h;
        let end = *y + PAD;
        match self.shape.places.last_mut() {
            Some(place) if step == Some(Step::Same) => {
                place.area.h = end - place.area.y;
                place.hops.1 = index;
            }
            _ => {
                let top = area.y - TITLE;
                let area = Area { x: *x, y: top, w: self.column, h: end - top };
                let from_above = match (step, self.form) {
                    (None, _) if self.form == Form::Wide || self.shape.beyond.is_empty() => 0,
                    (Some(Step::Beside), Form::Wide) => 0,
                    _ => 18 + rows.max(1) * RAIL,
                };
                let title = *x + PAD + from_above;
                self.shape.places.push(Place { area, title, hops: (index, index) });
            }
        }
    }

    /// What is local leads to the same machine; what has the same network namespace is at the same place. A hop of which the
    /// namespace is not known stands with the one that a local link joins it to, or by itself.
    fn step(&self, before: usize, index: usize, spanning: &[usize]) -> Step {
        let netns = |hop: usize| {
            let hop: &Hop = &self.tale.hops.get(hop)?.what;
            Some((hop.task.host, hop.process.netns?))
        };
        let (one, other) = (netns(before), netns(index));
        let local = spanning.iter().any(|link| {
            let link = &self.tale.links[*link].what.link;
            match link.kind {
                LinkKind::Unix | LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec | LinkKind::Relay => true,
                LinkKind::Tcp => link.tcp.is_some_and(|ends| ends.tuple.is_loopback()),
            }
        });
        match (one, other) {
            (Some(one), Some(other)) if one == other => Step::Same,
            (Some(_), Some(_)) if local => Step::Below,
            (None, _) | (_, None) if local => Step::Same,
            _ => Step::Beside,
        }
    }

    fn lines(&mut self, client: usize) {
        let count = self.tale.hops.len();
        for from in 0..count {
            let (mut rows, rails) = (0, self.leaving(from));
            for to in from + 1..count {
                for link in self.between(from, to) {
                    let line = if to == from + 1 { self.line(from, to, rows) } else { self.bow(from, to, rows, rails) };
                    self.shape.lines.push(Line { link: Some(link), hops: Some((from, to)), ..line });
                    rows += 1;
                }
            }
            let spanned = self.links().any(|(_, link)| link.from <= from && link.to > from);
            if !spanned && from + 1 < count {
                let line = self.line(from, from + 1, 0);
                self.shape.lines.push(Line { hops: Some((from, from + 1)), ..line });
            }
        }
        // Where the path leaves this host: a line without words, since the address stands in the box.
        for index in 0..self.shape.beyond.len() {
            let area = self.shape.beyond[index];
            let inset = match self.form {
                Form::Wide => 0,
                Form::Tall => PAD,
            };
            let area = Area { x: area.x + inset, y: area.y + TITLE, h: area.h - TITLE, ..area };
            let (from, to) = match (index < client, self.shape.hops.first(), self.shape.hops.last()) {
                (true, Some(first), _) => (area, *first),
                (false, _, Some(last)) => (*last, area),
                _ => continue,
            };
            let line = self.joining(from, to, 0, 1);
            self.shape.lines.push(Line { room: 0, ..line });
        }
    }

    fn line(&self, from: usize, to: usize, row: u32) -> Line {
        self.joining(self.shape.hops[from], self.shape.hops[to], row, self.leaving(from))
    }

    fn joining(&self, from: Area, to: Area, row: u32, rails: u32) -> Line {
        if to.x >= from.x + from.w {
            let (start, end) = (from.x + from.w, to.x);
            let (y1, y2) = (from.y + 28 + row * WORDS, to.y + 28 + row * WORDS);
            let middle = end - PAD - GAP / 2;
            let path = if y1 == y2 {
                format!("M{start} {y1}H{end}")
            } else {
                let turn = start + 2 * PAD;
                format!("M{start} {y1}H{turn}V{y2}H{end}")
            };
            let room = GAP * 10 / LETTER;
            return Line {
                link: None,
                hops: None,
                path,
                ends: ((start, y1), (end, y2)),
                words: (middle, y2 - 24),
                centred: true,
                room,
            };
        }
        let x = from.x + 22 + row * RAIL;
        let (y1, y2) = (from.y + from.h, to.y);
        let (mut words, room) = self.beside_rails(from, rails, row);
        // Outside of its place, where it leads to another.
        words.1 += if y2 - y1 > rails * WORDS + 2 * AIR { PAD } else { 0 };
        Line {
            link: None,
            hops: None,
            path: format!("M{x} {y1}V{y2}"),
            ends: ((x, y1), (x, y2)),
            words,
            centred: false,
            room,
        }
    }

    /// Where words stand beside the lines that go down from a hop, and how many letters fit.
    fn beside_rails(&self, from: Area, rails: u32, row: u32) -> ((u32, u32), u32) {
        let left = 18 + rails * RAIL;
        ((from.x + left, from.y + from.h + AIR + 12 + row * WORDS), (from.w + PAD - left) * 10 / LETTER)
    }

    /// Past hops that stand between: around them, on the right.
    fn bow(&self, from: usize, to: usize, row: u32, rails: u32) -> Line {
        let (from, to) = (self.shape.hops[from], self.shape.hops[to]);
        let (y1, y2) = (from.y + from.h / 2 + row * 6, to.y + to.h / 2 - row * 6);
        let right = from.x + from.w;
        let out = right.max(to.x + to.w) + PAD / 2;
        let (turn, end) = if to.x >= right { (right + PAD, to.x) } else { (out, to.x + to.w) };
        let path = format!("M{right} {y1}H{turn}V{y2}H{end}");
        let (words, room) = self.beside_rails(from, rails, row);
        Line { link: None, hops: None, path, ends: ((right, y1), (end, y2)), words, centred: false, room }
    }
}
