//! Detection of likely secrets, by a preceding name or by shape. Masks too much rather than too little; the user can
//! turn the masking off.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexSet};

use crate::model::RawText;

/// Replacement for a secret.
pub(super) const REDACTED: &[u8] = b"***";

/// Endings of names that precede a secret.
const NAMES: &str = "(?:password|passwd|passphrase|passwort|pwd|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key|\
                     private[_-]?key|account[_-]?key|auth[_-]?key)";

/// Options that take `user:password` (curl, wget).
const LOGINS: [&[u8]; 4] = [b"-u", b"--user", b"--proxy-user", b"-U"];

/// Programs that take the password directly after `-p`.
const MYSQL: [&[u8]; 2] = [b"mysql", b"mariadb"];

/// Patterns of secrets inside one word. The groups `keep` and `tail` are preserved.
fn shapes() -> [String; 7] {
    [
        // HTTP headers, up to the end of the line or quotes.
        r#"(?i-u)(?P<keep>\b(?:proxy-)?authorization["']?\s*[:=]\s*["']?|\bcookie["']?\s*:\s*|\bx-[a-z-]*(?:token|key|auth|secret)["']?\s*:\s*)[^"'\r\n]+"#.to_owned(),
        r"(?i-u)(?P<keep>\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}".to_owned(),
        // PGPASSWORD=…, --token=…, "password": "…", ?access_token=…
        format!(r#"(?i-u)(?P<keep>{NAMES}["']?\s*[:=]\s*["']?)[^\s"',;&]+"#),
        // Inside a shell command: --password …
        format!(r#"(?i-u)(?P<keep>(?:^|\s)--?(?:[a-z0-9]+-)*{NAMES}\s+["']?)[^\s"'-][^\s"']*"#),
        // https://user:password@host, https://token@host
        r"(?i-u)(?P<keep>\b[a-z][a-z0-9+.-]*://(?:[^/\s:@]*:)?)[^/\s@]+(?P<tail>@)".to_owned(),
        r#"(?i-u)(?P<keep>\b(?:mysql|mariadb)[a-z]*\b[^|;&\n]*?\s-p)[^\s"']+"#.to_owned(),
        // JSON Web Tokens, keys of AWS, tokens of GitHub, GitLab and Slack.
        r"(?-u)\b(?:eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,})".to_owned(),
    ]
}

pub(super) struct Secrets {
    /// All patterns in one set. Almost always none matches.
    any: RegexSet,
    /// The patterns one by one, each compiled at its first match.
    shapes: [(String, OnceLock<Option<Regex>>); 7],
    /// An option without a value: its value is the next word.
    option: Regex,
}

impl Secrets {
    pub(super) fn get() -> &'static Self {
        static SECRETS: OnceLock<Secrets> = OnceLock::new();
        SECRETS.get_or_init(Self::new)
    }

    #[expect(clippy::expect_used, reason = "constants, which a test compiles")]
    fn new() -> Self {
        let shapes = shapes();
        Self {
            any: RegexSet::new(&shapes).expect("the shapes are regular expressions"),
            shapes: shapes.map(|shape| (shape, OnceLock::new())),
            option: Regex::new(&format!("(?i-u)^--?(?:[a-z0-9]+-)*{NAMES}$")).expect("a regular expression"),
        }
    }

    pub(super) fn mask(&self, words: &mut [RawText]) {
        let mut is_mysql = false;
        let mut before: Option<Before> = None;
        for word in words.iter_mut() {
            let next = self.announces(word.as_bytes());
            match before {
                Some(Before::Secret) if !word.as_bytes().starts_with(b"-") => *word = RawText::from(REDACTED),
                Some(Before::Login) => mask_login(word),
                Some(Before::Secret) | None => self.mask_word(word, is_mysql),
            }
            is_mysql |= is_mysql_program(word.as_bytes());
            before = next;
        }
    }

    fn shape(&self, index: usize) -> Option<&Regex> {
        let (shape, compiled) = self.shapes.get(index)?;
        compiled.get_or_init(|| Regex::new(shape).ok()).as_ref()
    }

    fn announces(&self, word: &[u8]) -> Option<Before> {
        if LOGINS.contains(&word) {
            return Some(Before::Login);
        }
        (word.starts_with(b"-") && self.option.is_match(word)).then_some(Before::Secret)
    }

    fn mask_word(&self, word: &mut RawText, is_mysql: bool) {
        if is_mysql && word.as_bytes().starts_with(b"-p") && word.as_bytes().len() > 2 {
            *word = RawText::from([b"-p", REDACTED].concat().as_slice());
            return;
        }
        if cannot_match(word.as_bytes()) {
            return;
        }
        for index in self.any.matches(word.as_bytes()) {
            if let Some(shape) = self.shape(index) {
                let masked = shape.replace_all(word.as_bytes(), b"${keep}***${tail}".as_slice());
                *word = RawText::from(masked.as_ref());
            }
        }
    }
}

/// Length of the shortest token that the last pattern of [`shapes`] matches: `xoxb-` and ten characters.
const SHORTEST_TOKEN: usize = 15;

/// True if the word is too simple for every pattern of [`shapes`]. All but the last one need a colon, an equals sign or
/// white space; the last one needs [`SHORTEST_TOKEN`] bytes.
fn cannot_match(word: &[u8]) -> bool {
    let is_separator = |byte: &u8| matches!(byte, b':' | b'=' | b' ' | b'\t'..=b'\r');
    word.len() < SHORTEST_TOKEN && !word.iter().any(is_separator)
}

/// Meaning of a word for the next word.
#[derive(Clone, Copy)]
enum Before {
    /// The next word is a secret.
    Secret,
    /// The next word is a user name, perhaps with a password.
    Login,
}

/// Masks the password of `user:password`. Leaves `1000:1000`, a user and a group.
fn mask_login(word: &mut RawText) {
    let bytes = word.as_bytes();
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return };
    if bytes.get(colon + 1..).is_some_and(|secret| !secret.is_empty() && !secret.iter().all(u8::is_ascii_digit)) {
        *word = RawText::from([&bytes[..=colon], REDACTED].concat().as_slice());
    }
}

fn is_mysql_program(word: &[u8]) -> bool {
    let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    MYSQL.iter().any(|program| name.starts_with(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(words: &[&str]) -> Vec<String> {
        let mut words: Vec<RawText> = words.iter().map(|word| RawText::from(*word)).collect();
        Secrets::get().mask(&mut words);
        words.iter().map(|word| word.to_text().into_owned()).collect()
    }

    #[test]
    fn likely_secret_is_masked_and_its_name_stays() {
        let cases = [
            ("--token=abc", "--token=***"),
            ("--password=hunter2", "--password=***"),
            ("PGPASSWORD=x psql", "PGPASSWORD=*** psql"),
            ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY=***"),
            ("Authorization: Bearer abcdefgh.ij", "Authorization: ***"),
            ("curl -H 'Authorization: Basic dXNlcjpwYXNz' http://x", "curl -H 'Authorization: ***' http://x"),
            ("X-Vault-Token: s.abc", "X-Vault-Token: ***"),
            ("{\"user\":\"a\",\"password\": \"b\"}", "{\"user\":\"a\",\"password\": \"***\"}"),
            ("https://bob:pw@db.example:5432/x?a=b", "https://bob:***@db.example:5432/x?a=b"),
            ("postgres://db.example/x?sslpassword=pw&y=1", "postgres://db.example/x?sslpassword=***&y=1"),
            ("https://ghp_0123456789012345678901@github.com/a", "https://***@github.com/a"),
            ("echo ghp_0123456789012345678901", "echo ***"),
            ("mysql -u root -phunter2 db | cat", "mysql -u root -p*** db | cat"),
            ("login --user bob --password hunter2 now", "login --user bob --password *** now"),
        ];
        for (word, expected) in cases {
            assert_eq!(masked(&[word]), [expected]);
        }
    }

    #[test]
    fn word_after_secret_option_is_masked() {
        assert_eq!(masked(&["x", "--token", "abc", "exec"]), ["x", "--token", "***", "exec"]);
        assert_eq!(masked(&["x", "--db-password", "-v"]), ["x", "--db-password", "-v"]);
        assert_eq!(masked(&["curl", "-u", "bob:pw"]), ["curl", "-u", "bob:***"]);
        assert_eq!(masked(&["kubectl", "exec", "db", "--", "mysql", "-phunter2"])[5], "-p***");
    }

    #[test]
    fn words_without_secrets_are_unchanged() {
        let words = [
            "kubectl",
            "exec",
            "-it",
            "web",
            "-p80",
            "--token-file=/run/token",
            "--authentication-token-webhook=true",
            "get",
            "secret",
            "docker",
            "-u",
            "1000:1000",
            "unix:///run/containerd/containerd.sock",
            "http://10.0.0.1:8080/@me",
            "echo the password is gone",
        ];
        assert_eq!(masked(&words), words);
    }

    #[test]
    fn patterns_match_no_word_that_is_skipped() {
        let secrets = Secrets::get();
        assert!(shapes().iter().all(|shape| Regex::new(shape).is_ok()));
        // Each pattern with the shortest word that it matches, cut and changed at every place.
        let words = [
            "cookie:x",
            "basic abcdefgh",
            "pwd:x",
            "-pwd x",
            "a://x@",
            "mysql -px",
            "xoxb-0123456789",
            "glpat-01234567890123456789",
            "eyJ01234567.01234567",
        ];
        for word in words {
            assert!(secrets.any.is_match(word.as_bytes()), "{word}");
            assert!(!cannot_match(word.as_bytes()), "{word}");
            for at in 0..word.len() {
                for byte in b"x:= -\t\n_." {
                    let mut changed = word.as_bytes().to_vec();
                    changed[at] = *byte;
                    let shorter = [&word.as_bytes()[..at], &word.as_bytes()[at + 1..]].concat();
                    for word in [changed, shorter] {
                        assert!(!(cannot_match(&word) && secrets.any.is_match(&word)), "{word:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn non_utf8_words_are_masked() {
        let mut words = [RawText::from(b"\xff password=\xfe\xfd x".as_slice())];
        Secrets::get().mask(&mut words);
        assert_eq!(words[0].as_bytes(), b"\xff password=*** x");
    }
}
