//! The table of docs/performance.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The page, relative to the root of the repository.
const PAGE: &str = "docs/performance.md";
/// The table is between these lines; the rest of the page is written by hand.
const BEGIN: &str = "<!-- made by `cargo xtask bench all`, do not edit -->";
/// See [`BEGIN`].
const END: &str = "<!-- end of the table -->";

/// One measurement.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Measured quantity, with its unit.
    pub(super) what: String,
    /// Value of execpath.
    pub(super) ours: String,
    /// Value of the rival, and its name.
    pub(super) rival: String,
    /// `ours` divided by `rival`.
    pub(super) ratio: Option<f64>,
    /// Distance between the quartiles of the ratios of the runs, in per cent of their median; `None` for a single run.
    pub(super) spread: Option<f64>,
    /// Value to reach.
    pub(super) target: &'static str,
    /// True if the target is reached; `None` without a target.
    pub(super) reached: Option<bool>,
}

/// Renders a table in Markdown, below the machine that it was measured on.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = format!("Machine: {}.\n\n", machine());
    text.push_str("| what | execpath | rival | ratio | spread | to reach | reached |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        let spread = row.spread.map_or_else(String::new, |spread| format!("{spread:.0} %"));
        let reached = match row.reached {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {ratio} | {spread} | {} | {reached} |",
            row.what, row.ours, row.rival, row.target
        );
    }
    text
}

/// Replaces the table of the page.
pub(super) fn write(root: &Path, table: &str) -> Result<()> {
    let file = root.join(PAGE);
    let page = fs::read_to_string(&file).context(PAGE)?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} lacks the line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} lacks the line {END}"))?;
    Ok(fs::write(file, format!("{before}{BEGIN}\n{table}{END}{after}"))?)
}

/// Kernel, processors and memory.
fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kilobytes = read("/proc/meminfo").split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok());
    format!(
        "{cores} processors ({}), {} GB, Linux {}",
        model.trim_start_matches([' ', '\t', ':']).trim(),
        kilobytes.unwrap_or_default() / 1_000_000,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// The middle value; NaN for none.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 2)
}

/// Distance between the quartiles, in per cent of the median.
pub(super) fn spread(values: &[f64]) -> f64 {
    (quantile(values, 3) - quantile(values, 1)) * 100.0 / median(values)
}

/// Quartile number `quarter` of the values.
fn quantile(values: &[f64], quarter: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * quarter / 4).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_measured_values() {
        let values = [5.0, 1.0, 2.0, 3.0, 4.0];
        assert_eq!((median(&values), spread(&values)), (3.0, 2.0 * 100.0 / 3.0));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn row_without_rival_has_empty_cells() {
        let row =
            Row { what: "size".into(), ours: "8 MB".into(), target: "9 MB", reached: Some(true), ..Row::default() };
        assert!(markdown(&[row]).ends_with("| size | 8 MB |  |  |  | 9 MB | yes |\n"));
    }
}
