//! Paints single lines.

use ratatui::{buffer::Buffer, layout::Rect, text::Line, widgets::Widget};
use unicode_width::UnicodeWidthStr;

/// Paints a line. If it is wider than its area, it ends in `…`.
pub(super) fn paint(line: Line<'_>, area: Rect, buffer: &mut Buffer) {
    let is_cut = line.width() > usize::from(area.width);
    line.render(area, buffer);
    if is_cut && !area.is_empty() {
        let last = area.right() - 1;
        // A wide character in the two last columns would hide the mark.
        if area.width > 1 && buffer[(last - 1, area.y)].symbol().width() > 1 {
            buffer[(last - 1, area.y)].set_symbol(" ");
        }
        buffer[(last, area.y)].set_symbol("…");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_mark_replaces_wide_character() {
        for (text, painted) in [("日本語", "日 …"), ("a日本語", "a日…"), ("日本", "日本")] {
            let area = Rect::new(0, 0, 4, 1);
            let mut buffer = Buffer::empty(area);
            paint(Line::from(text), area, &mut buffer);
            assert_eq!(buffer, Buffer::with_lines([painted]), "{text}");
        }
    }
}
