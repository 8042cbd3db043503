//! A Mermaid flowchart, for Markdown.

use std::io::{self, Write};

use super::{
    SessionTimeline, Timeline, labels,
    layout::{self, Form},
};
use crate::{
    escape,
    model::{Confidence, Link},
    sink::{Header, phrases},
};

/// Most characters of a label: Mermaid does not wrap lines.
const ROOM: u32 = 60;

/// Writes one flowchart with a box for each session.
///
/// # Errors
/// When the writer fails.
pub(super) fn write(timeline: &Timeline, target: &mut dyn Write) -> io::Result<()> {
    writeln!(target, "flowchart LR")?;
    if timeline.sessions.is_empty() {
        writeln!(target, "  none[\"no session in this recording\"]")?;
    }
    for (number, history) in timeline.sessions.iter().enumerate() {
        session(&timeline.header, number, &history.without_retracted(), target)?;
    }
    target.flush()
}

fn session(header: &Header, number: usize, history: &SessionTimeline, target: &mut dyn Write) -> io::Result<()> {
    let hop = |index: usize| format!("s{number}h{index}");
    let title = format!("{} · {}", labels::title(&history.session), escape::str(&history.session.id.0, phrases::NAME));
    writeln!(target, "  subgraph s{number}[\"{}\"]", label(&title))?;
    let shape = layout::shape(history, Form::Tall);
    for (place, at) in shape.places.iter().zip(0..) {
        let (first, last) = place.hops;
        let (title, netns) = labels::place(header, history, first, last);
        writeln!(target, "    subgraph s{number}p{at}[\"{}<br/>{}\"]", label(&title), label(&netns))?;
        for (index, one) in history.hops.iter().enumerate().take(last + 1).skip(first) {
            let (role, what) = labels::hop(&one.value);
            let inside = links(history).filter(|link| link.from == index && link.to == index);
            let inside: String = inside
                .map(|link| {
                    format!(
                        "<br/>{}",
                        label(&format!("⇄ {} · {}", labels::evidence(&link.evidence), link.confidence.token()))
                    )
                })
                .collect();
            writeln!(target, "      {}[\"{}<br/>{}{inside}\"]", hop(index), label(&role), label(&what))?;
        }
        writeln!(target, "    end")?;
    }
    for ((side, address), at) in history.session.beyond.iter().zip(0..) {
        let outside = format!("s{number}b{at}");
        let text = format!("{}, not on this host", escape::str(side, phrases::NAME));
        writeln!(target, "    {outside}([\"{}<br/>{}\"])", label(&text), label(&address.to_string()))?;
        match (*side == "client", history.hops.len()) {
            (_, 0) => {}
            (true, _) => writeln!(target, "    {outside} --- {}", hop(0))?,
            (false, count) => writeln!(target, "    {} --- {outside}", hop(count - 1))?,
        }
    }
    for link in links(history).filter(|link| link.from != link.to) {
        let (kind, what) = labels::link_between(link);
        let what = if what.is_empty() { String::new() } else { format!("<br/>{}", label(&what)) };
        let arrow = match link.confidence {
            Confidence::Exact => "-->",
            Confidence::Strong | Confidence::Weak => "-.->",
        };
        writeln!(target, "    {} {arrow}|\"{}{what}\"| {}", hop(link.from), label(&kind), hop(link.to))?;
    }
    for (from, to) in shape.lines.iter().filter(|line| line.link.is_none()).filter_map(|line| line.hops) {
        writeln!(target, "    {} -.-|\"? no link is proved\"| {}", hop(from), hop(to))?;
    }
    writeln!(target, "  end")
}

fn links(history: &SessionTimeline) -> impl Iterator<Item = &Link> {
    history.links.iter().map(|edge| &edge.value.link)
}

/// Escapes a label: every character with a meaning in Mermaid, HTML or Markdown becomes a numeric reference.
fn label(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || " .:/,→·⇄…()-".contains(character);
    labels::cut(text, ROOM)
        .chars()
        .map(|character| if plain(character) { character.to_string() } else { format!("#{};", u32::from(character)) })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn special_characters_become_numeric_references() {
        assert_eq!(super::label("web \"x\"]<img>&#;`"), "web #34;x#34;#93;#60;img#62;#38;#35;#59;#96;");
        assert_eq!(super::label("日本 → /run/x.sock"), "日本 → /run/x.sock");
    }
}
