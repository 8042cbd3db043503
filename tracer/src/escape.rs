//! Makes untrusted text safe for a terminal.
//!
//! Names, paths and arguments come from any process, even a hostile one. No such text may move the cursor, change the
//! reading order or hide other text. Dangerous characters are shown as escapes; long text is cut visibly.

use unicode_width::UnicodeWidthChar;

use crate::model::RawText;

/// Marks the position of a cut.
pub const CUT: char = '…';

/// True if a character is invisible: it controls the terminal or affects the display of other text.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    // Almost every character is ASCII: decide without the table.
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    character.is_control()
        || matches!(character,
            '\u{00ad}'                    // soft hyphen
            | '\u{034f}'                  // grapheme joiner
            | '\u{061c}'                  // Arabic letter mark
            | '\u{115f}' | '\u{1160}'     // Hangul fillers: blank letters
            | '\u{17b4}' | '\u{17b5}'     // blank Khmer vowels
            | '\u{180b}'..='\u{180f}'     // Mongolian variation selectors
            | '\u{200b}'..='\u{200f}'     // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}'     // line separators, bidi embeddings and overrides
            | '\u{2060}'..='\u{206f}'     // word joiner, invisible operators, bidi isolates
            | '\u{3164}' | '\u{ffa0}'     // Hangul fillers
            | '\u{fe00}'..='\u{fe0f}'     // variation selectors
            | '\u{feff}'                  // byte order mark
            | '\u{fff9}'..='\u{fffb}'     // interlinear annotation
            | '\u{fffe}' | '\u{ffff}'     // noncharacters: invalid in XML
            | '\u{e0000}'..='\u{e0fff}'   // tags, more variation selectors
        )
}

/// True if the text consists of visible ASCII characters and spaces: it needs no escape, and each byte takes one column.
#[must_use]
pub fn is_plain(text: &[u8]) -> bool {
    // Without an early exit, the compiler checks 16 bytes at a time.
    text.iter().fold(true, |plain, byte| plain & (0x20..0x7f).contains(byte))
}

/// Columns of escaped text on a terminal: two for each wide character, such as those of Chinese, Japanese and Korean.
///
/// A combining character counts as one column, although it has none: a limit in columns must also limit the length.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(character: char) -> usize {
    character.width().unwrap_or(0).max(1)
}

/// Escapes text for one line of a terminal, at most `max` columns wide.
#[must_use]
pub fn text(bytes: &[u8], max: usize) -> String {
    let mut out = Bounded::new(max);
    'all: for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let fits = if is_hidden(character) { out.push(&escaped(character)) } else { out.push_one(character) };
            if !fits {
                break 'all;
            }
        }
        for byte in chunk.invalid() {
            if !out.push(&format!("\\x{byte:02x}")) {
                break 'all;
            }
        }
    }
    out.text
}

/// [`text`] of a string.
#[must_use]
pub fn str(text: &str, max: usize) -> String {
    self::text(text.as_bytes(), max)
}

/// Escapes a path and shortens it in the middle. containerd names sockets by hash, so that start and end identify them.
#[must_use]
pub fn shortened(path: &RawText) -> String {
    const MAX: usize = 300;
    const START: usize = 40;
    const END: usize = 12;
    let text = text(path.as_bytes(), MAX);
    if columns(&text) <= START + 1 + END {
        return text;
    }
    let start: String = within(text.chars(), START).collect();
    let end: Vec<char> = within(text.chars().rev(), END).collect();
    start.chars().chain([CUT]).chain(end.into_iter().rev()).collect()
}

/// The first characters that fit this many columns.
fn within(characters: impl Iterator<Item = char>, room: usize) -> impl Iterator<Item = char> {
    let mut used = 0;
    characters.take_while(move |character| {
        used += columns_of(*character);
        used <= room
    })
}

/// Escape for a character that [`is_hidden`].
fn escaped(character: char) -> String {
    match character {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        _ if character.is_ascii() => format!("\\x{:02x}", u32::from(character)),
        _ => format!("\\u{{{:x}}}", u32::from(character)),
    }
}

/// Formats a command so that it can be pasted into a shell. It is at most `max` columns wide, plus a closing
/// quote. A cut command ends in [`CUT`], outside of quotes.
#[must_use]
pub fn command(argv: &[RawText], truncated: bool, max: usize) -> String {
    let mut line = String::new();
    for word in argv {
        let space = usize::from(!line.is_empty());
        let left = max.saturating_sub(columns(&line) + space);
        let whole = quoted(word.as_bytes());
        if left == 0 {
            line.push_str(if space == 1 { " …" } else { "…" });
            return line;
        }
        line.push_str(if space == 1 { " " } else { "" });
        if columns(&whole) <= left {
            line.push_str(&whole);
            continue;
        }
        line.push_str(&quoted_start(word.as_bytes(), left));
        line.push(CUT);
        return line;
    }
    if truncated {
        line.push_str(if line.is_empty() { "…" } else { " …" });
    }
    line
}

/// Longest start of a word whose quoted form has at most `max` columns. Quoting it repeatedly is cheap, since the
/// kernel's record bounds its length.
fn quoted_start(word: &[u8], max: usize) -> String {
    // A character has at most four bytes.
    let mut kept = word.len().min(max.saturating_mul(4));
    while kept > 0 {
        let start = &word[..kept];
        // Cut between characters: half of one would be quoted as invalid bytes.
        let boundary = word.get(kept).is_none_or(|next| next & 0xc0 != 0x80);
        if boundary {
            let text = quoted(start);
            if columns(&text) <= max {
                return text;
            }
        }
        kept -= 1;
    }
    String::new()
}

/// Quotes one word for a POSIX shell: bare, in single quotes, or in `$'…'` if it needs escapes.
fn quoted(word: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:=,@%+".contains(byte);
    // zsh and others expand a leading `=` or `~`.
    if !word.is_empty() && word[0] != b'=' && word.iter().all(plain) {
        return String::from_utf8_lossy(word).into_owned();
    }
    let clean = std::str::from_utf8(word).ok().filter(|text| !text.chars().any(is_hidden));
    if let Some(text) = clean {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut out = String::from("$'");
    for chunk in word.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\'' => out.push_str("\\'"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                _ if !is_hidden(character) => out.push(character),
                _ => {
                    let code = u32::from(character);
                    out.push_str(&match code {
                        ..0x80 => format!("\\x{code:02x}"),
                        0x80..0x1_0000 => format!("\\u{code:04x}"),
                        _ => format!("\\U{code:08x}"),
                    });
                }
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('\'');
    out
}

/// Text of bounded width that reserves a place for [`CUT`].
struct Bounded {
    text: String,
    width: usize,
    max: usize,
    /// Length in bytes of the text that leaves room for the mark.
    cut_at: usize,
}

impl Bounded {
    fn new(max: usize) -> Self {
        Self { text: String::new(), width: 0, max, cut_at: 0 }
    }

    /// [`Bounded::push`] of one character.
    fn push_one(&mut self, character: char) -> bool {
        self.push(character.encode_utf8(&mut [0; 4]))
    }

    /// Appends a piece; returns false if it did not fit and the text was cut.
    fn push(&mut self, piece: &str) -> bool {
        self.width += columns(piece);
        if self.width > self.max {
            self.text.truncate(self.cut_at);
            self.text.push(CUT);
            return false;
        }
        self.text.push_str(piece);
        if self.width < self.max {
            self.cut_at = self.text.len();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &[&str] = &[
        "\x1b[2J\x1b[31mroot",
        "\x1b]0;title\x07",
        "\u{9b}31m",
        "safe\revil",
        "a\nb",
        "user\u{202e}txt.exe",
        "\u{2066}isolate\u{2069}",
        "zero\u{200b}width\u{feff}",
        "tag\u{e0041}",
        "\x7f\x00",
        "line\u{2028}separator",
    ];

    #[test]
    fn hostile_text_is_escaped() {
        for input in HOSTILE {
            let argv = [RawText::from(*input)];
            for output in [str(input, 200), command(&argv, false, 200), str(input, 6), command(&argv, false, 6)] {
                assert!(!output.chars().any(is_hidden), "{output:?}");
            }
        }
        assert_eq!(str("\x1b[2J", 80), "\\x1b[2J");
        assert_eq!(str("a\u{202e}b", 80), "a\\u{202e}b");
        assert_eq!(text(b"a\xffb", 80), "a\\xffb");
    }

    #[test]
    fn harmless_text_is_unchanged() {
        for input in ["sh", "naïve — ✓", "日本語", "back\\slash"] {
            assert_eq!(str(input, 80), input);
        }
    }

    #[test]
    fn long_text_is_cut_outside_of_escapes() {
        assert_eq!(str("abcdef", 6), "abcdef");
        assert_eq!(str("abcdefg", 6), "abcde…");
        assert_eq!(str("abc\x1bdef", 6), "abc…");
        assert_eq!(str("abc", 0), "…");
        for max in 0..40 {
            assert!(str(&"x\x1b".repeat(20), max).chars().count() <= max.max(1));
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(columns("日本 a"), 6);
        assert_eq!(str("日本語", 6), "日本語");
        assert_eq!(str("日本語", 5), "日本…");
        assert_eq!(str("日本語", 4), "日…");
        // Combining characters must not grow a text beyond its limit.
        assert_eq!(str(&format!("e{}", "\u{301}".repeat(99)), 4).chars().count(), 4);
        let path = RawText::from(format!("/run/{}.sock", "語".repeat(60)).as_str());
        assert_eq!(shortened(&path), format!("/run/{}…{}.sock", "語".repeat(17), "語".repeat(3)));
    }

    #[test]
    fn commands_can_be_pasted() {
        let line = |words: &[&[u8]]| {
            let argv: Vec<RawText> = words.iter().map(|word| RawText::from(*word)).collect();
            command(&argv, false, 200)
        };
        assert_eq!(line(&[b"sh", b"-c", b"sleep 5000"]), "sh -c 'sleep 5000'");
        assert_eq!(line(&[b"echo", b"", b"it's", b"$HOME", b"~"]), r"echo '' 'it'\''s' '$HOME' '~'");
        assert_eq!(line(&[b"a\nb\x1b'\\", b"\xff"]), r"$'a\nb\x1b\'\\' $'\xff'");
        assert_eq!(line(&["\u{202e}".as_bytes(), "\u{e0041}".as_bytes()]), r"$'\u202e' $'\U000e0041'");
    }

    #[test]
    fn shell_parses_quoted_words_back() {
        let words: [&[u8]; 6] =
            [b"it's", b"\xfe\xff\x01\x1b[0m", b"a\\nb\n", "\u{202e}x".as_bytes(), b"", b"$(reboot)`"];
        let argv: Vec<RawText> = words.iter().map(|word| RawText::from(*word)).collect();
        let script = format!("printf '%s\\0' {}", command(&argv, false, 500));
        let output =
            std::process::Command::new("bash").args(["-c", &script]).env("LC_ALL", "C.UTF-8").output().unwrap();
        let expected: Vec<u8> = words.iter().flat_map(|word| word.iter().copied().chain([0])).collect();
        assert_eq!(output.stdout, expected);
    }

    #[test]
    fn cut_command_closes_quotes_and_is_marked() {
        let argv: Vec<RawText> = ["sh", "-c", "sleep 5000; echo done"].map(RawText::from).into();
        assert_eq!(command(&argv, false, 16), "sh -c 'sleep 50'…");
        assert_eq!(command(&argv, false, 5), "sh -c …");
        assert_eq!(command(&argv[..2], true, 80), "sh -c …");
        assert_eq!(command(&[], true, 80), "…");
        let wide = [RawText::from("日本語日本語 x")];
        assert_eq!(command(&wide, false, 5), "'日'…");
        assert_eq!(command(&wide, false, 8), "'日本語'…");
    }
}
