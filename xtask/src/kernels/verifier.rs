//! Instruction counts of the verifier, per program and kernel, kept in a committed file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Ran;
use crate::repo::root;

/// Largest growth of a count, in percent. A count is the number of instructions that the verifier walked, which has a
/// limit in the kernel; small changes follow from the kernel's updates.
const GROWTH: u64 = 10;

/// Key: guest and program.
type Counts = BTreeMap<(String, String), u64>;

fn file() -> PathBuf {
    root().join("tests/kernel/verifier.txt")
}

const HEAD: &str =
    "# Instructions that the verifier walked: guest, program, count. Written by `cargo xtask kernels`.\n";

/// Compares the counts with the committed ones, and writes them unless `check` is set. Returns the faults.
pub(super) fn review(ran: &[Ran], check: bool, accept: bool) -> Result<Vec<String>> {
    let new = counts(ran);
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let old = parse(&fs::read_to_string(file()).unwrap_or_default());
    let grown = if accept { Vec::new() } else { grown(&old, &new) };
    if !check && grown.is_empty() {
        let text = print(&merged(old, new));
        fs::write(file(), text).with_context(|| file().display().to_string())?;
    }
    Ok(grown)
}

/// Reads the lines `verified PROGRAM COUNT` that a kernel test prints.
fn counts(ran: &[Ran]) -> Counts {
    let mut counts = Counts::new();
    for Ran { guest, reports, .. } in ran {
        for line in reports.jobs.iter().flat_map(|job| job.output.lines()) {
            if let ["verified", program, count] = *line.split_whitespace().collect::<Vec<_>>()
                && let Ok(count) = count.parse()
            {
                counts.insert((guest.name.to_owned(), program.to_owned()), count);
            }
        }
    }
    counts
}

fn grown(old: &Counts, new: &Counts) -> Vec<String> {
    let rows = new.iter().filter_map(|(key, count)| {
        let before = *old.get(key)?;
        let (guest, program) = key;
        (count * 100 > before * (100 + GROWTH)).then(|| {
            format!("{guest}: the verifier walks {count} instructions of {program}, {before} before: simplify the probe, or accept with --accept-growth")
        })
    });
    rows.collect()
}

/// Replaces all counts of the guests that ran.
fn merged(mut old: Counts, new: Counts) -> Counts {
    old.retain(|(guest, _), _| new.keys().all(|(ran, _)| ran != guest));
    old.extend(new);
    old
}

fn print(counts: &Counts) -> String {
    counts.iter().fold(HEAD.to_owned(), |mut text, ((guest, program), count)| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{guest} {program} {count}");
        text
    })
}

fn parse(text: &str) -> Counts {
    let rows = text.lines().filter_map(|line| {
        let [guest, program, count] = *line.split_whitespace().collect::<Vec<_>>() else { return None };
        Some(((guest.to_owned(), program.to_owned()), count.parse().ok()?))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::{Counts, grown, merged, parse, print};

    fn counts(rows: &[(&str, &str, u64)]) -> Counts {
        rows.iter().map(|(guest, program, count)| ((guest.to_string(), program.to_string()), *count)).collect()
    }

    #[test]
    fn growth_beyond_a_tenth_is_reported() {
        let old = counts(&[("a", "x", 100), ("a", "y", 100), ("b", "x", 100)]);
        let new = counts(&[("a", "x", 110), ("a", "y", 111), ("a", "z", 900)]);
        let grown = grown(&old, &new);
        assert_eq!(grown.len(), 1);
        assert!(grown[0].starts_with("a: the verifier walks 111 instructions of y, 100 before"), "{grown:?}");
    }

    #[test]
    fn counts_of_other_guests_are_kept() {
        let old = counts(&[("a", "gone", 1), ("b", "x", 2)]);
        let all = merged(old, counts(&[("a", "x", 3)]));
        assert_eq!(all, counts(&[("a", "x", 3), ("b", "x", 2)]));
        assert_eq!(parse(&print(&all)), all);
    }
}
