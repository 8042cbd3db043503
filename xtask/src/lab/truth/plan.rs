//! What is to be opened: sessions that differ in a token, and in how much they are sent.

use std::ops::RangeInclusive;

/// Containers that take turns: of one pod and of several, with the host's network and with one of their own.
const PLACES: [(&str, &str); 4] = [("web", "web"), ("web", "side"), ("own-net", "own-net"), ("probed", "probed")];

/// What even the smallest session is sent: far more than a request, a TLS handshake and the heartbeats of a minute.
const LEAST: u64 = 20_000;

/// A session to be.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// From 1.
    pub(super) number: u32,
    /// In the command, and nowhere else on the machine.
    pub(super) token: String,
    /// What its stdin is sent: no other session that is open at the same time is sent as much.
    pub(super) bytes: u64,
    pub(super) pod: &'static str,
    pub(super) container: &'static str,
}

impl Planned {
    /// The session of this number; `rank` is its place among those that are open at the same time.
    pub(super) fn new(number: u32, rank: u32, spacing: u64) -> Self {
        let places = u32::try_from(PLACES.len()).unwrap_or(1);
        let place = usize::try_from(number % places).unwrap_or(0);
        let (pod, container) = PLACES.get(place).copied().unwrap_or(PLACES[0]);
        let bytes = LEAST + u64::from(rank) * spacing;
        Self { number, token: format!("{}{number}", prefix()), bytes, pod, container }
    }

    /// Sessions that are all open at the same time.
    pub(super) fn all(numbers: RangeInclusive<u32>, spacing: u64) -> Vec<Self> {
        numbers.map(|number| Self::new(number, number, spacing)).collect()
    }

    /// What runs in the container: takes what it is sent, says so, then repeats lines until its stdin ends. The shell stays,
    /// with the token among its arguments.
    pub(super) fn command(&self) -> [String; 3] {
        let script = format!(
            "head -c {} >/dev/null; echo done; while read line; do echo \"$line\"; done; : {}",
            self.bytes, self.token
        );
        ["sh".to_owned(), "-c".to_owned(), script]
    }
}

/// How the tokens of this run begin.
fn prefix() -> String {
    format!("truth-{}-", std::process::id())
}

/// The number in the token that these words have.
pub(super) fn number_in<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<u32> {
    let prefix = prefix();
    let digits = |text: &'a str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end)?.parse().ok()
    };
    words.into_iter().find_map(|word| digits(word.split_once(&prefix)?.1))
}

#[cfg(test)]
mod tests {
    use super::{Planned, number_in};

    #[test]
    fn a_token_is_found_again_in_its_command() {
        let planned = Planned::new(17, 3, 1_000);
        assert_eq!(planned.bytes, 23_000);
        assert_eq!(number_in(planned.command().iter().map(String::as_str)), Some(17));
        assert_eq!(number_in(["sh", "-c", "true"]), None);
    }

    #[test]
    fn no_two_of_a_run_are_sent_the_same() {
        let mut bytes: Vec<u64> = Planned::all(1..=100, 2_000).iter().map(|planned| planned.bytes).collect();
        bytes.dedup();
        assert_eq!(bytes.len(), 100);
    }
}
