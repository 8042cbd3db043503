//! The start of a session as text: a row for each part, a bar for its place in time.

use super::phrases::phase;
use crate::model::{Part, Rung, RungState, Session, Span, Waterfall};

/// Most names of unseen rungs in a row.
const NAMES: usize = 2;

/// A row of the waterfall.
pub(crate) struct Row {
    /// Rung at which the part ends.
    pub(crate) label: &'static str,
    /// The bar, as wide as the whole waterfall: solid, or hatched if other rungs lie in the part.
    pub(crate) bar: String,
    /// Duration of the part.
    pub(crate) lasted: String,
    /// Rungs in the part that were not seen, or the result of the rung; empty for an ordinary part.
    pub(crate) note: String,
    /// Set if no other rung lies between the two of the part.
    pub(crate) is_seen: bool,
    /// Set if the rung failed.
    pub(crate) is_failed: bool,
}

/// The duration of the whole start, and its first and last rung.
pub(crate) fn title(start: &Waterfall) -> Option<String> {
    let (first, last) = (start.parts.first()?, start.parts.last()?);
    Some(format!("{} from {} to {}", phase(start.wall()), first.from.token(), last.to.token()))
}

/// The rows of a start, with bars of this many columns. A command runs once it is executed: a row of no length is left
/// out there.
pub(crate) fn rows(start: &Waterfall, columns: usize) -> Vec<Row> {
    let (wall, mut passed) = (start.wall(), Span(0));
    let mut rows = Vec::with_capacity(start.parts.len());
    for part in &start.parts {
        let begun = passed;
        passed = Span(passed.0.saturating_add(part.lasted.0));
        if part.to == Rung::Running && part.lasted == Span(0) {
            continue;
        }
        rows.push(Row {
            label: part.to.token(),
            bar: bar(begun, passed, wall, columns, part.unseen.is_empty()),
            lasted: phase(part.lasted),
            note: note(part),
            is_seen: part.unseen.is_empty(),
            is_failed: part.state == RungState::Failed,
        });
    }
    rows
}

/// A bar from `begun` to `ended`. It has one column at least.
fn bar(begun: Span, ended: Span, wall: Span, columns: usize, is_seen: bool) -> String {
    let column = |at: Span, up: bool| {
        let (at, wall, columns) = (u128::from(at.0), u128::from(wall.0.max(1)), columns as u128);
        let column = if up { (at * columns).div_ceil(wall) } else { at * columns / wall };
        usize::try_from(column).unwrap_or(usize::MAX)
    };
    let from = column(begun, false).min(columns.saturating_sub(1));
    let until = column(ended, true).clamp(from + 1, columns.max(from + 1));
    let sign = if is_seen { "█" } else { "░" };
    format!("{}{}{}", " ".repeat(from), sign.repeat(until - from), " ".repeat(columns.saturating_sub(until)))
}

fn note(part: &Part) -> String {
    let unseen = match part.unseen.len() {
        0 => String::new(),
        count @ 1..=NAMES => {
            format!("not seen: {}", part.unseen[..count].iter().map(|rung| rung.token()).collect::<Vec<_>>().join(", "))
        }
        count => format!("not seen: {count} rungs"),
    };
    let result = match part.state {
        RungState::Failed => "failed",
        RungState::Waiting => "begun, no result",
        RungState::Reached | RungState::Absent | RungState::Unseen => "",
    };
    [result, &unseen].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The title of a session's start and its rows; `None` if fewer than two rungs have a time.
pub(crate) fn start(session: &Session, columns: usize) -> Option<(String, Vec<Row>)> {
    let start = session.waterfall()?;
    Some((title(&start)?, rows(&start, columns)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootTime;

    #[test]
    fn bars_follow_each_other_and_fill_the_width() {
        use Rung::{ApiserverAccepted, ClientStarted, Connected, Executed, KubeletDialled, NameResolved, Running, Tls};
        let part = |from, to, begun: u64, lasted: u64, unseen: &[Rung]| Part {
            from,
            to,
            state: RungState::Reached,
            begun: BootTime(begun),
            lasted: Span(lasted),
            unseen: unseen.to_vec(),
        };
        let start = Waterfall {
            parts: vec![
                part(ClientStarted, Connected, 0, 5_000_000, &[NameResolved]),
                part(Connected, ApiserverAccepted, 5_000_000, 30_000, &[]),
                part(ApiserverAccepted, KubeletDialled, 5_030_000, 4_970_000, &[Tls]),
                part(KubeletDialled, Executed, 10_000_000, 10_000_000, &[Tls, Tls, Tls]),
                part(Executed, Running, 20_000_000, 0, &[]),
            ],
        };
        assert_eq!(title(&start).as_deref(), Some("20.0 ms from client-started to running"));
        let drawn: Vec<String> = rows(&start, 8)
            .iter()
            .map(|row| format!("{:<18} {} {} {}", row.label, row.bar, row.lasted, row.note).trim_end().to_owned())
            .collect();
        assert_eq!(
            drawn,
            [
                "connected          ░░       5.00 ms not seen: name-resolved",
                "apiserver-accepted   █      30 µs",
                "kubelet-dialled      ░░     4.97 ms not seen: tls",
                "executed               ░░░░ 10.0 ms not seen: 3 rungs",
            ]
        );
    }
}
