//! Planned sessions, which differ in their token and in the number of bytes sent to them.

use std::ops::RangeInclusive;

/// Containers to use in turn: one pod with two containers and other pods, on the host's network and on their own.
const CONTAINERS: [(&str, &str); 4] = [("web", "web"), ("web", "side"), ("own-net", "own-net"), ("probed", "probed")];

/// Bytes sent to the smallest session: far more than a request, a TLS handshake and the heartbeats of a minute.
const LEAST: u64 = 20_000;

/// A planned session.
#[derive(Clone, Debug)]
pub(in crate::lab) struct Planned {
    /// Counted from 1.
    pub(in crate::lab) number: u32,
    /// Occurs in the command and nowhere else on the machine.
    pub(in crate::lab) token: String,
    /// Number of bytes sent to stdin: unique among the sessions open at the same time.
    pub(in crate::lab) bytes: u64,
    pub(in crate::lab) pod: &'static str,
    pub(in crate::lab) container: &'static str,
}

impl Planned {
    /// Plans the session of this number. `rank` is its position among the sessions open at the same time.
    pub(in crate::lab) fn new(number: u32, rank: u32, spacing: u64) -> Self {
        let count = u32::try_from(CONTAINERS.len()).unwrap_or(1);
        let index = usize::try_from(number % count).unwrap_or(0);
        let (pod, container) = CONTAINERS.get(index).copied().unwrap_or(CONTAINERS[0]);
        let bytes = LEAST + u64::from(rank) * spacing;
        Self { number, token: format!("{}{number}", prefix()), bytes, pod, container }
    }

    /// Plans sessions that are all open at the same time.
    pub(in crate::lab) fn all(numbers: RangeInclusive<u32>, spacing: u64) -> Vec<Self> {
        numbers.map(|number| Self::new(number, number, spacing)).collect()
    }

    /// Command in the container: reads its bytes, prints `done`, then echoes lines until stdin ends. The shell stays,
    /// with the token among its arguments.
    pub(in crate::lab) fn command(&self) -> [String; 3] {
        let script = format!(
            "head -c {} >/dev/null; echo done; while read line; do echo \"$line\"; done; : {}",
            self.bytes, self.token
        );
        ["sh".to_owned(), "-c".to_owned(), script]
    }
}

/// Prefix of the tokens of this run.
fn prefix() -> String {
    format!("truth-{}-", std::process::id())
}

/// The number in the first token among these words.
pub(in crate::lab) fn number_in<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<u32> {
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
    fn token_is_found_in_its_command() {
        let planned = Planned::new(17, 3, 1_000);
        assert_eq!(planned.bytes, 23_000);
        assert_eq!(number_in(planned.command().iter().map(String::as_str)), Some(17));
        assert_eq!(number_in(["sh", "-c", "true"]), None);
    }

    #[test]
    fn byte_counts_are_unique() {
        let mut bytes: Vec<u64> = Planned::all(1..=100, 2_000).iter().map(|planned| planned.bytes).collect();
        bytes.dedup();
        assert_eq!(bytes.len(), 100);
    }
}
