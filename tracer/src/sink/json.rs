//! JSON that is safe to read on a terminal or to embed in an HTML page.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{
    ser::{CompactFormatter, Formatter, Serializer},
    value::RawValue,
};

use crate::escape;

/// Serialises a value to one line.
pub(super) fn text(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(2_048);
    append(&mut line, value)?;
    Ok(line)
}

/// Appends [`text`] of a value to a line.
pub(super) fn append(line: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(line, Visible { in_page: false }))?;
    Ok(())
}

/// Serialises a value that is part of several lines, so that each of them copies it. Invisible characters are escaped.
pub(super) fn part(value: &impl Serialize) -> io::Result<Box<RawValue>> {
    let text = String::from_utf8(text(value)?).map_err(io::Error::other)?;
    // SAFETY: the serialiser wrote this text, and its formatter changes the content of strings only: it is one JSON value
    // without white space around it.
    Ok(unsafe { RawValue::from_string_unchecked(text) })
}

/// Serialises a value to one line for an element of an HTML page. It contains no character that begins or ends markup.
pub(crate) fn embedded(value: &impl Serialize, target: &mut dyn Write) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(target, Visible { in_page: true }))?;
    Ok(())
}

/// Escapes invisible characters. JSON permits C1 controls and bidi overrides, but JSON Lines are also read on
/// terminals. The escape `\uXXXX` has the same meaning to parsers.
struct Visible {
    /// True if the characters of HTML markup are escaped too.
    in_page: bool,
}

impl Visible {
    fn hides(&self, character: char) -> bool {
        escape::is_hidden(character) || (self.in_page && matches!(character, '<' | '>' | '&'))
    }

    /// True if nothing in the text is hidden. May be false for a text without anything hidden.
    fn is_plain(&self, text: &str) -> bool {
        !self.in_page && escape::is_plain(text.as_bytes())
    }
}

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if self.is_plain(fragment) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
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
    fn hidden_characters_are_escaped_and_parse_back() {
        let text = "a\u{9b}31m\u{202e}b\u{e0041}\x7f\x1b\n\"日本";
        let line = String::from_utf8(super::text(&text).unwrap()).unwrap();
        assert!(!line.chars().any(escape::is_hidden), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    #[test]
    fn page_data_contains_no_markup() {
        let text = "</script><!-- <img onerror=x> \u{2028}&amp;";
        let mut embedded = Vec::new();
        super::embedded(&text, &mut embedded).unwrap();
        let embedded = String::from_utf8(embedded).unwrap();
        assert!(!embedded.contains(['<', '>', '&', '\u{2028}']), "{embedded}");
        assert_eq!(serde_json::from_str::<String>(&embedded).unwrap(), text);
    }
}
