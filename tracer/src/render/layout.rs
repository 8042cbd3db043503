//! Positions of the boxes and lines of a session's picture. A shape contains no text, so that sessions with equal paths
//! share one shape, and SVG and HTML draw the same.
//!
//! A place is the network namespace that adjacent hops share. Places joined by a network connection are side by side;
//! places on one machine are stacked. Hops are stacked in their place, in the order of the path.

use serde::Serialize;

use super::timeline::SessionTimeline;
use crate::model::{Hop, Link, LinkKind};

/// Arrangement of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Places side by side.
    Wide,
    /// All places stacked, for a narrow screen.
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

/// The box of hops that share a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct NetnsBox {
    /// Position and size.
    pub(super) area: Area,
    /// Left end of its title, to the right of the lines that enter from above.
    pub(super) title: u32,
    /// Indices of its first and last hop.
    pub(super) hops: (usize, usize),
}

/// A line between two boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Connector {
    /// Index of the link; `None` if the line marks a missing link, or leaves this host.
    pub(super) link: Option<usize>,
    /// Indices of the two hops; `None` if the line leaves this host.
    pub(super) hops: Option<(usize, usize)>,
    /// The `d` attribute of its SVG path.
    pub(super) path: String,
    /// Its start and end points.
    pub(super) ends: ((u32, u32), (u32, u32)),
    /// Position of its label: the baseline of the first of two lines, at the left end or, if `centred`, in the middle.
    pub(super) words: (u32, u32),
    /// True if the label is centred on its position.
    pub(super) centred: bool,
    /// Most characters of the label; 0 without a label.
    pub(super) room: u32,
}

/// A picture without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shape {
    /// Total width.
    pub(super) w: u32,
    /// Total height.
    pub(super) h: u32,
    /// Boxes of the places, in the order of the path.
    pub(super) places: Vec<NetnsBox>,
    /// Boxes of the hops, in the order of the path.
    pub(super) hops: Vec<Area>,
    /// Boxes of the addresses at which the path leaves this host.
    pub(super) beyond: Vec<Area>,
    /// Lines between boxes. A relay has none: its text is inside the box of its hop.
    pub(super) lines: Vec<Connector>,
}

/// Margin of the whole picture.
const MARGIN: u32 = 12;
/// Padding between a place and its hops.
const PAD: u32 = 14;
/// Height of the two title lines of a place.
const TITLE: u32 = 48;
/// Gap between places side by side; two short lines of text fit.
const GAP: u32 = 112;
/// Height of a two-line label, from one link to the next.
const WORDS: u32 = 34;
/// Space above and below the labels between two hops.
const AIR: u32 = 12;
/// Height of a hop with its two lines, and of each relay inside it.
const HOP: u32 = 56;
const RELAY: u32 = 20;
/// Distance between parallel vertical lines.
const RAIL: u32 = 18;
/// Width of a label's character, in tenths: 11 px of the widest common sans-serif.
const LETTER: u32 = 68;

/// Position of a hop relative to its predecessor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placement {
    Same,
    Below,
    Beside,
}

/// Computes the picture of a session.
#[must_use]
pub(super) fn shape(history: &SessionTimeline, form: Form) -> Shape {
    Layout::new(history, form).finish()
}

struct Layout<'a> {
    history: &'a SessionTimeline,
    form: Form,
    column: u32,
    shape: Shape,
}

impl<'a> Layout<'a> {
    fn new(history: &'a SessionTimeline, form: Form) -> Self {
        let column = match form {
            Form::Wide => 248,
            Form::Tall => 440,
        };
        let shape = Shape { w: 0, h: 0, places: Vec::new(), hops: Vec::new(), beyond: Vec::new(), lines: Vec::new() };
        Self { history, form, column, shape }
    }

    fn links(&self) -> impl Iterator<Item = (usize, &'a Link)> + use<'a> {
        self.history.links.iter().map(|edge| &edge.value.link).enumerate()
    }

    fn between(&self, from: usize, to: usize) -> Vec<usize> {
        self.links().filter(|(_, link)| link.from == from && link.to == to).map(|(index, _)| index).collect()
    }

    fn finish(mut self) -> Shape {
        let beyond = &self.history.session.beyond;
        let (mut x, mut y) = (MARGIN, MARGIN);
        let client = beyond.iter().filter(|(side, _)| *side == "client").count();
        for _ in 0..client {
            self.outside(&mut x, &mut y);
        }
        for index in 0..self.history.hops.len() {
            self.hop(index, &mut x, &mut y);
        }
        for _ in client..beyond.len() {
            self.move_beside(&mut x, &mut y, 1);
            self.outside(&mut x, &mut y);
        }
        // Boxes come first: lines need the positions of all of them.
        self.lines(client);
        let areas = self.shape.places.iter().map(|place| place.area).chain(self.shape.beyond.iter().copied());
        let (w, h) = areas.fold((0, 0), |(w, h), area| (w.max(area.x + area.w), h.max(area.y + area.h)));
        Shape { w: w + MARGIN, h: h + MARGIN, ..self.shape }
    }

    /// Moves to the start of the next place beside the last one.
    fn move_beside(&self, x: &mut u32, y: &mut u32, rows: u32) {
        match self.form {
            Form::Wide => (*x, *y) = (*x + self.column + GAP, MARGIN),
            Form::Tall => *y += WORDS * rows + 2 * AIR,
        }
    }

    /// Number of lines that leave a hop downwards or sideways. At least one: a missing link is drawn as well.
    fn leaving(&self, from: usize) -> u32 {
        let links = self.links().filter(|(_, link)| link.from == from && link.to > from).count();
        u32::try_from(links.max(1)).unwrap_or(1)
    }

    fn outside(&mut self, x: &mut u32, y: &mut u32) {
        let first = self.shape.hops.is_empty();
        // Beside hops, its line meets the box at their height.
        let h = match self.form {
            Form::Wide => TITLE + HOP,
            Form::Tall => TITLE + PAD,
        };
        let area = Area { x: *x, y: *y, w: self.column, h };
        self.shape.beyond.push(area);
        *y += area.h;
        if first {
            self.move_beside(x, y, 1);
        }
    }

    fn hop(&mut self, index: usize, x: &mut u32, y: &mut u32) {
        let spanning = index.checked_sub(1).map(|before| self.between(before, index)).unwrap_or_default();
        let placement = index.checked_sub(1).map(|before| self.placement(before, index, &spanning));
        let rows = index.checked_sub(1).map_or(0, |before| self.leaving(before));
        let words = WORDS * rows + 2 * AIR;
        match placement {
            Some(Placement::Same) => *y += words,
            Some(Placement::Below) => *y += PAD + words + TITLE,
            Some(Placement::Beside) => {
                *y += PAD;
                self.move_beside(x, y, rows);
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
            Some(place) if placement == Some(Placement::Same) => {
                place.area.h = end - place.area.y;
                place.hops.1 = index;
            }
            _ => {
                let top = area.y - TITLE;
                let area = Area { x: *x, y: top, w: self.column, h: end - top };
                // Lines that enter from above pass to the left of the title.
                let from_above = match (placement, self.form) {
                    (None, _) if self.form == Form::Wide || self.shape.beyond.is_empty() => 0,
                    (Some(Placement::Beside), Form::Wide) => 0,
                    _ => 18 + rows.max(1) * RAIL,
                };
                let title = *x + PAD + from_above;
                self.shape.places.push(NetnsBox { area, title, hops: (index, index) });
            }
        }
    }

    /// Decides between the same place, a place below and a place beside. A local link stays on the machine; equal
    /// namespaces share a place. A hop with an unknown namespace joins the place of its local neighbour, or gets its
    /// own.
    fn placement(&self, before: usize, index: usize, spanning: &[usize]) -> Placement {
        let netns = |hop: usize| {
            let hop: &Hop = &self.history.hops.get(hop)?.value;
            Some((hop.task.host, hop.process.netns?))
        };
        let (one, other) = (netns(before), netns(index));
        let local = spanning.iter().any(|link| {
            let link = &self.history.links[*link].value.link;
            match link.kind {
                LinkKind::Unix | LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec | LinkKind::Relay => true,
                LinkKind::Tcp => link.tcp.is_some_and(|ends| ends.tuple.is_loopback()),
            }
        });
        match (one, other) {
            (Some(one), Some(other)) if one == other => Placement::Same,
            (Some(_), Some(_)) if local => Placement::Below,
            (None, _) | (_, None) if local => Placement::Same,
            _ => Placement::Beside,
        }
    }

    fn lines(&mut self, client: usize) {
        let count = self.history.hops.len();
        for from in 0..count {
            let (mut rows, rails) = (0, self.leaving(from));
            for to in from + 1..count {
                for link in self.between(from, to) {
                    let line =
                        if to == from + 1 { self.line(from, to, rows) } else { self.detour(from, to, rows, rails) };
                    self.shape.lines.push(Connector { link: Some(link), hops: Some((from, to)), ..line });
                    rows += 1;
                }
            }
            // No link spans this pair of neighbours: draw the missing link.
            let spanned = self.links().any(|(_, link)| link.from <= from && link.to > from);
            if !spanned && from + 1 < count {
                let line = self.line(from, from + 1, 0);
                self.shape.lines.push(Connector { hops: Some((from, from + 1)), ..line });
            }
        }
        // Lines to the addresses outside of this host have no label, since the address is in the box.
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
            let line = self.connect(from, to, 0, 1);
            self.shape.lines.push(Connector { room: 0, ..line });
        }
    }

    fn line(&self, from: usize, to: usize, row: u32) -> Connector {
        self.connect(self.shape.hops[from], self.shape.hops[to], row, self.leaving(from))
    }

    fn connect(&self, from: Area, to: Area, row: u32, rails: u32) -> Connector {
        // The target is beside: a horizontal line, bent where the heights differ.
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
            return Connector {
                link: None,
                hops: None,
                path,
                ends: ((start, y1), (end, y2)),
                words: (middle, y2 - 24),
                centred: true,
                room,
            };
        }
        // The target is below: a vertical line.
        let x = from.x + 22 + row * RAIL;
        let (y1, y2) = (from.y + from.h, to.y);
        let (mut words, room) = self.beside_rails(from, rails, row);
        // Between places, the label is outside of the upper one.
        words.1 += if y2 - y1 > rails * WORDS + 2 * AIR { PAD } else { 0 };
        Connector {
            link: None,
            hops: None,
            path: format!("M{x} {y1}V{y2}"),
            ends: ((x, y1), (x, y2)),
            words,
            centred: false,
            room,
        }
    }

    /// Position and room of a label to the right of the vertical lines below a hop.
    fn beside_rails(&self, from: Area, rails: u32, row: u32) -> ((u32, u32), u32) {
        let left = 18 + rails * RAIL;
        ((from.x + left, from.y + from.h + AIR + 12 + row * WORDS), (from.w + PAD - left) * 10 / LETTER)
    }

    /// A line from `from` to a hop further down, drawn to the right of the hops between them.
    fn detour(&self, from: usize, to: usize, row: u32, rails: u32) -> Connector {
        let (from, to) = (self.shape.hops[from], self.shape.hops[to]);
        let (y1, y2) = (from.y + from.h / 2 + row * 6, to.y + to.h / 2 - row * 6);
        let right = from.x + from.w;
        let out = right.max(to.x + to.w) + PAD / 2;
        let (turn, end) = if to.x >= right { (right + PAD, to.x) } else { (out, to.x + to.w) };
        let path = format!("M{right} {y1}H{turn}V{y2}H{end}");
        let (words, room) = self.beside_rails(from, rails, row);
        Connector { link: None, hops: None, path, ends: ((right, y1), (end, y2)), words, centred: false, room }
    }
}
