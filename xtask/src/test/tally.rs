//! Counts of tests, parsed from the output of cargo's and node's test runners.

use std::fmt;
use std::ops::{Add, AddAssign};

/// Numbers of passed, failed and skipped tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
}

impl Tally {
    /// One passed check.
    pub(super) fn success() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// One failed check.
    pub(super) fn failure() -> Self {
        Self { failed: 1, ..Self::default() }
    }

    /// Sums the result lines. A test that cannot run here passes for the runner and prints `skipped: WHY`.
    pub(super) fn of(output: &str) -> Self {
        let lines = output.lines().filter_map(|line| result(line).or_else(|| summary(line)));
        let mut tally: Self = lines.fold(Self::default(), Add::add);
        let skipped_by_test = output.lines().filter(|line| line.trim_start().starts_with("skipped: ")).count();
        let skipped_by_test = u32::try_from(skipped_by_test).unwrap_or(u32::MAX).min(tally.passed);
        tally.passed -= skipped_by_test;
        tally.skipped += skipped_by_test;
        tally
    }

    /// Counts tests as failed that were skipped because this tool is missing: their lines are `skipped: TOOL is missing…`.
    pub(super) fn with_skips_failed_of(self, tool: &str, output: &str) -> Self {
        let reason = format!("skipped: {tool} ");
        let skipped = output.lines().filter(|line| line.trim_start().starts_with(&reason)).count();
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX).min(self.skipped);
        Self { failed: self.failed + skipped, skipped: self.skipped - skipped, ..self }
    }

    /// Counts skipped tests as failed.
    pub(super) fn with_skips_failed(self) -> Self {
        Self { failed: self.failed + self.skipped, skipped: 0, ..self }
    }
}

/// Parses `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s`.
fn result(line: &str) -> Option<Tally> {
    let counts = line.trim_start().strip_prefix("test result: ")?;
    let (_, counts) = counts.split_once(". ")?;
    let count = |what: &str| {
        counts.split("; ").find_map(|count| count.strip_suffix(what)?.trim_end().parse().ok()).unwrap_or(0)
    };
    Some(Tally { passed: count("passed"), failed: count("failed"), skipped: count("ignored") })
}

/// Parses a summary line of node's TAP output, such as `# pass 12`. node counts cancelled tests separately.
fn summary(line: &str) -> Option<Tally> {
    let (what, count) = line.strip_prefix("# ")?.split_once(' ')?;
    let count = count.parse().ok()?;
    match what {
        "pass" => Some(Tally { passed: count, ..Tally::default() }),
        "fail" | "cancelled" => Some(Tally { failed: count, ..Tally::default() }),
        "skipped" | "todo" => Some(Tally { skipped: count, ..Tally::default() }),
        _ => None,
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s

---- b stdout ----
skipped: needs cgroup v2
test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.00s
";

    #[test]
    fn results_of_all_targets_are_summed() {
        assert_eq!(Tally::of(OUTPUT), Tally { passed: 4, failed: 1, skipped: 2 });
        assert_eq!(Tally::of(OUTPUT).to_string(), "4 passed, 1 failed, 2 skipped");
        assert_eq!(Tally::of(OUTPUT).with_skips_failed().to_string(), "4 passed, 3 failed");
        let of_tool = |tool| Tally::of(OUTPUT).with_skips_failed_of(tool, OUTPUT).to_string();
        assert_eq!(
            [of_tool("needs"), of_tool("cgroup")],
            ["4 passed, 2 failed, 1 skipped", "4 passed, 1 failed, 2 skipped"]
        );
    }

    #[test]
    fn node_summary_is_counted() {
        let output = "ok 1 - a\n1..4\n# tests 5\n# suites 0\n# pass 2\n# fail 1\n# cancelled 1\n# skipped 1\n# todo 0\n# duration_ms 7";
        assert_eq!(Tally::of(output), Tally { passed: 2, failed: 2, skipped: 1 });
    }

    #[test]
    fn missing_result_counts_no_test() {
        assert_eq!(Tally::of("error: could not compile"), Tally::default());
    }
}
