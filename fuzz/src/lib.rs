//! Shared code of the targets: recordings built from an input's lines, and mutations that keep most lines valid JSON.

use execpath::{
    correlate::{Correlator, Options},
    model::{HostFacts, Observation},
};

/// First line of every recording that a target plays.
pub const HEADER: &str = concat!(
    r#"{"execpath":"0.1.0","format":3,"boot_to_utc_ns":1795297200000000000,"#,
    r#""host":{"hostname":"h","kernel":"6.18.0","arch":"x86_64","boot_id":"b","btf":true,"capabilities":0}}"#
);

/// Parses the observations in an input's lines. Skips all other lines.
pub fn observations(data: &[u8]) -> impl Iterator<Item = Observation> + '_ {
    data.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Builds a recording from the header and the input's unchanged lines.
#[must_use]
pub fn recording(data: &[u8]) -> Vec<u8> {
    [HEADER.as_bytes(), b"\n", data].concat()
}

/// An empty correlator.
#[must_use]
pub fn correlator() -> Correlator {
    let host = HostFacts { boot_id: "b".to_owned(), ..HostFacts::default() };
    Correlator::new(&host, &Options::default())
}

/// Boundary values that decisions depend on.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    6443,
    10250,
    1_000_000,
    5_000_000,
    1_000_000_000,
    u32::MAX as u64,
    3_153_600_000_000_000_000,
    i64::MAX as u64,
    u64::MAX,
];

/// A small generator. The same seed gives the same mutation, so that a finding can be replayed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Knuth's multiplicative congruence (MMIX). The high bits are good enough.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % limit.max(1)
    }
}

/// Mutates the lines of an input: their number, their order, one number, or one piece of text. Returns the new
/// length, or `None` if the input has no lines.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> Option<usize> {
    let mut random = Random(u64::from(seed) | 1 << 40);
    let mut lines: Vec<Vec<u8>> = data.get(..size)?.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.retain(|line| !line.is_empty());
    if lines.is_empty() {
        return None;
    }
    let (one, other) = (random.below(lines.len()), random.below(lines.len()));
    match random.below(8) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one].clone()),
        2 => lines.swap(one, other),
        // Move a run of lines, so that it arrives late or early.
        3 => {
            let length = 1 + random.below(8).min(lines.len() - one - 1);
            let piece: Vec<Vec<u8>> = lines.drain(one..one + length).collect();
            let at = random.below(lines.len() + 1);
            lines.splice(at..at, piece);
        }
        4 | 5 => replace(&mut lines, one, other, &mut random, number),
        _ => replace(&mut lines, one, other, &mut random, text),
    }
    let joined = lines.join(&b'\n');
    let length = joined.len().min(max).min(data.len());
    data[..length].copy_from_slice(&joined[..length]);
    Some(length)
}

type Ranges = Vec<std::ops::Range<usize>>;

/// Replaces a piece of one line by a piece of another.
fn replace(lines: &mut [Vec<u8>], into: usize, from: usize, random: &mut Random, pieces: fn(&[u8]) -> Ranges) {
    let (places, sources) = (pieces(&lines[into]), pieces(&lines[from]));
    let Some(place) = places.get(random.below(places.len())).cloned() else { return };
    let is_number = lines[into].get(place.start).is_some_and(u8::is_ascii_digit);
    let piece = match sources.get(random.below(sources.len())) {
        Some(source) if !is_number || random.below(2) == 0 => lines[from][source.clone()].to_vec(),
        _ if is_number => NUMBERS[random.below(NUMBERS.len())].to_string().into_bytes(),
        _ => return,
    };
    lines[into].splice(place, piece);
}

/// Ranges of digits.
fn number(line: &[u8]) -> Ranges {
    ranges(line, u8::is_ascii_digit)
}

/// Ranges of words: names, ids and parts of paths.
fn text(line: &[u8]) -> Ranges {
    ranges(line, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn ranges(line: &[u8], is_it: impl Fn(&u8) -> bool) -> Ranges {
    let mut found = Vec::new();
    let mut start = None;
    for (at, byte) in line.iter().enumerate() {
        match (is_it(byte), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| from..line.len()));
    found
}
