//! Paints single lines.

use ratatui::{buffer::Buffer, layout::Rect, text::Line, widgets::Widget};

/// Paints a line. If it is wider than its area, it ends in `…`.
pub(super) fn paint(line: Line<'_>, area: Rect, buffer: &mut Buffer) {
    let is_cut = line.width() > usize::from(area.width);
    line.render(area, buffer);
    if is_cut && !area.is_empty() {
        buffer[(area.right() - 1, area.y)].set_symbol("…");
    }
}
