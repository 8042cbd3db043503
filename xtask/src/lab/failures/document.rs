//! Writes `docs/failures.md` with the figures of the last run of each kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tabled::builder::Builder;

use super::judge::Row;
use super::kinds;
use crate::lab::RunningLab;
use crate::lab::truth::document::{circumstances, markdown, renewed, section};

const HEAD: &str = "\
# Which failures are reported, and how soon

`cargo xtask soak` writes this page; by hand: `cargo xtask lab failures --write docs/failures.md`, for docker with `--runtime docker`. Both
fail if a failure is missing, wrong or late.

Real kubectls fail on the lab's cluster in each of these ways, while one `execpath trace --record` runs. The oracle is kubectl: its pid,
exit code, message and end. It shares no code with the tracer.

* **right**: reported once, with the stage (`reached`, `failed_at`), the error number, the sender of a fatal signal, and
  the one fault that `execpath diagnose` names for the recording ([attempts](attempts.md), [faults](faults/README.md)). The cause of a
  certificate that kubectl does not trust is not named, because it is encrypted; a client that was killed is no fault of the path.
* **wrong**: reported with another stage or cause, or twice. **missing**: not reported. **late**: right, more than one second after the
  client's end.
* **client's exit**: the JSON of a right report has kubectl's exit. A session closes with its command and connections, and its last line waits
  half a second for kubectl's end; a wrong exit is **wrong**.
* The port-forwards begin five seconds apart. The failure of one that begins sooner after another one's end is assigned to neither.
* A kind without a row was not measured with this runtime.
* **p50**, **p99**: time from the client's end to the line of `-o jsonl` that has the stage; 0 if it came before that end.
";

const COLUMNS: [&str; 10] =
    ["failure", "stage", "fault", "made", "right", "wrong", "missing", "late", "client's exit", "p50 / p99"];

/// Renders the table. Each row has its cells.
pub(super) fn table(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut builder = Builder::default();
    builder.push_record(COLUMNS.map(str::to_owned));
    rows.into_iter().for_each(|row| builder.push_record(row));
    markdown(builder)
}

/// The cells of a kind.
pub(super) fn cells(name: &str, row: &Row) -> Vec<String> {
    let kind = kinds::all().into_iter().find(|kind| kind.name == name);
    let expected = kind.map(|kind| kind.expected);
    let stage = expected.as_ref().map_or("", |expected| expected.failed_at.unwrap_or(expected.reached));
    let fault = expected.as_ref().and_then(|expected| expected.fault).unwrap_or("none");
    let millis = |delay: Option<Duration>| delay.map_or_else(|| "?".to_owned(), |it| it.as_millis().to_string());
    let counts =
        [row.made, row.right, row.wrong.len(), row.missing, row.late, row.exits].map(|count| count.to_string());
    let delays = format!("{} / {} ms", millis(row.delay(50)), millis(row.delay(99)));
    [name, stage, fault].map(str::to_owned).into_iter().chain(counts).chain([delays]).collect()
}

/// Rewrites the rows of these kinds in the section of this runtime.
pub(super) fn write(file: &Path, lab: &RunningLab, runtime: &str, rows: &[(&str, Row)]) -> Result<()> {
    let old = std::fs::read_to_string(file).unwrap_or_default();
    let mut all = section(&old, runtime).map(rows_in).unwrap_or_default();
    all.extend(rows.iter().map(|(name, row)| ((*name).to_owned(), cells(name, row))));
    let ordered = kinds::all().into_iter().filter_map(|kind| all.remove(kind.name));
    let body = format!("{runtime}\n\n{}.\n\n{}\n", circumstances(lab, runtime)?, table(ordered));
    std::fs::write(file, renewed(HEAD, &old, runtime, &body))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Rows of a table, by the first cell.
fn rows_in(section: &str) -> BTreeMap<String, Vec<String>> {
    let lines = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows = lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    rows.filter_map(|row| Some((row.first()?.clone(), row))).collect()
}

#[cfg(test)]
mod tests {
    use super::{rows_in, table};

    #[test]
    fn rows_are_read_back_from_table() {
        let row: Vec<String> =
            ["a b", "s", "F01", "1", "1", "0", "0", "0", "1", "3 / 4 ms"].map(str::to_owned).to_vec();
        let rows = rows_in(&table([row.clone()]));
        assert_eq!(rows.get("a b"), Some(&row));
    }
}
