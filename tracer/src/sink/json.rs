//! JSON that may be read on a terminal, or stand in a page.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::escape;

/// A value on one line.
pub(super) fn text(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(2_048);
    value.serialize(&mut Serializer::with_formatter(&mut line, Visible { in_page: false }))?;
    Ok(line)
}

/// A value on one line, to stand inside an element of a page: nothing in it begins or ends markup.
pub(crate) fn island(value: &impl Serialize, target: &mut dyn Write) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(target, Visible { in_page: true }))?;
    Ok(())
}

/// JSON may hold C1 controls and bidi overrides as they are, and JSON Lines are read on terminals too: these are written as
/// `\uXXXX`, which means the same.
struct Visible {
    /// Whether what means something to HTML is escaped, too.
    in_page: bool,
}

impl Visible {
    fn hides(&self, character: char) -> bool {
        escape::is_hidden(character) || (self.in_page && matches!(character, '<' | '>' | '&'))
    }
}

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, character)| self.hides(*character)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + hidden.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_read_back_the_same() {
        let text = "a\u{9b}31m\u{202e}b\u{e0041}\x7f\x1b\n\"日本";
        let line = String::from_utf8(super::text(&text).unwrap()).unwrap();
        assert!(!line.chars().any(escape::is_hidden), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    #[test]
    fn nothing_in_a_page_begins_or_ends_markup() {
        let text = "</script><!-- <img onerror=x> \u{2028}&amp;";
        let mut island = Vec::new();
        super::island(&text, &mut island).unwrap();
        let island = String::from_utf8(island).unwrap();
        assert!(!island.contains(['<', '>', '&', '\u{2028}']), "{island}");
        assert_eq!(serde_json::from_str::<String>(&island).unwrap(), text);
    }
}
