//! The table of kernels and abilities, for docs/compatibility.md.

use std::fs;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use tabled::builder::Builder;
use tabled::settings::Style;

use super::Ran;
use super::boot::Job;
use crate::repo::root;

/// The document, and the markers around its generated part.
const DOCUMENT: &str = "docs/compatibility.md";
const BEGIN: &str = "<!-- begin: cargo xtask kernels -->\n";
const END: &str = "<!-- end: cargo xtask kernels -->\n";

/// An ability, and the jobs that prove it: names that begin with one of the prefixes.
struct Ability {
    name: &'static str,
    jobs: &'static [&'static str],
}

const ABILITIES: &[Ability] = &[
    Ability { name: "doctor", jobs: &["doctor"] },
    Ability { name: "tracepoints", jobs: &["kernel::roads::length_"] },
    Ability { name: "fexit", jobs: &["kernel::roads::fexit_"] },
    Ability { name: "system calls", jobs: &["kernel::roads::syscalls_"] },
    Ability { name: "splice on every road", jobs: &["kernel::roads::every_road_"] },
    Ability { name: "Go relay, copies", jobs: &["kernel::go_relay::goroutines_pair_every"] },
    Ability { name: "Go relay, splices", jobs: &["kernel::go_relay::goroutines_pair_connections_of_splicing"] },
    Ability { name: "translating proxy", jobs: &["kernel::creator::", "kernel::idle_relays::"] },
    Ability { name: "TCP", jobs: &["kernel::tcp::", "kernel::thread_relay::", "kernel::isn::"] },
    Ability { name: "unix", jobs: &["kernel::unix::"] },
    Ability { name: "FIFOs", jobs: &["kernel::fifo::", "kernel::leaked_fifos::"] },
    Ability { name: "fork, exec", jobs: &["kernel::process::"] },
    Ability { name: "iterator", jobs: &["kernel::scan_methods::"] },
    Ability { name: "losses", jobs: &["kernel::lost_records::", "kernel::full_maps::"] },
    Ability { name: "other kernel tests", jobs: &["kernel::"] },
    Ability { name: "demo", jobs: &["demo::"] },
];

/// The ability that a job proves: the first one in the table.
fn ability(job: &Job) -> Option<usize> {
    ABILITIES.iter().position(|ability| ability.jobs.iter().any(|prefix| job.name.starts_with(prefix)))
}

/// The cell of an ability without jobs in this run.
const NOT_RUN: &str = "not run";

/// The cell of some jobs: `yes`, or the number of passed jobs. Tests of a road do not run if the kernel refuses it.
fn cell<'a>(jobs: impl Iterator<Item = &'a Job>) -> String {
    let (mut passed, mut skipped, mut all) = (0, 0, 0);
    for job in jobs {
        all += 1;
        passed += u32::from(job.passed() && job.skipped().is_none());
        skipped += u32::from(job.passed() && job.skipped().is_some());
    }
    match (passed, all - skipped) {
        _ if all == 0 => NOT_RUN.to_owned(),
        (_, 0) => "skipped".to_owned(),
        (passed, ran) if passed == ran => "yes".to_owned(),
        (0, _) => "no".to_owned(),
        (passed, ran) => format!("{passed} of {ran}"),
    }
}

fn row(ran: &Ran) -> Vec<String> {
    let jobs = &ran.reports.jobs;
    let release = ran.reports.release.clone().unwrap_or_else(|| "does not boot".to_owned());
    let cells = (0..ABILITIES.len()).map(|index| cell(jobs.iter().filter(|job| ability(job) == Some(index))));
    [ran.guest.name.to_owned(), release, road(jobs)].into_iter().chain(cells).collect()
}

/// The road that the tracer chose, from the doctor's report.
fn road(jobs: &[Job]) -> String {
    let doctor = jobs.iter().find(|job| job.name == "doctor");
    let report = doctor.and_then(|job| serde_json::from_str::<serde_json::Value>(&job.output).ok());
    report.and_then(|report| Some(report["road"].as_str()?.to_owned())).unwrap_or_else(|| "-".to_owned())
}

/// Number of columns before the abilities.
const FIXED: usize = 3;

fn head() -> Vec<String> {
    let abilities = ABILITIES.iter().map(|ability| ability.name);
    ["guest", "kernel", "road"].into_iter().chain(abilities).map(str::to_owned).collect()
}

fn markdown(rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut builder = Builder::default();
    builder.push_record(head());
    rows.for_each(|row| builder.push_record(row));
    builder.build().with(Style::markdown()).to_string()
}

/// The table of the guests that ran.
pub(super) fn table(ran: &[Ran]) -> String {
    markdown(ran.iter().map(row))
}

/// Writes the rows of the guests that ran into the document. With `check`, only returns the cells that became worse.
pub(super) fn review(ran: &[Ran], check: bool) -> Result<Vec<String>> {
    let old = document()?;
    let rows: Vec<Vec<String>> = ran.iter().map(row).collect();
    if check {
        return Ok(worse(&parse(&old), &rows));
    }
    let file = root().join(DOCUMENT);
    fs::write(&file, renewed(&old, rows)?).with_context(|| file.display().to_string())?;
    Ok(Vec::new())
}

/// Rows of the document's table.
fn parse(document: &str) -> Vec<Vec<String>> {
    let generated = document.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let lines = generated.map_or("", |(part, _)| part).lines().skip(2).filter(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Number of passed jobs that a cell states; `yes` is more than any number.
fn rank(cell: &str) -> u32 {
    match cell.split(' ').next() {
        Some("yes") => u32::MAX,
        Some(number) => number.parse().unwrap_or(0),
        None => 0,
    }
}

/// Cells with fewer passed jobs than before.
fn worse(old: &[Vec<String>], new: &[Vec<String>]) -> Vec<String> {
    let head = head();
    let mut faults = Vec::new();
    for row in new {
        let Some(before) = old.iter().find(|before| before.first() == row.first()) else { continue };
        for ((name, before), now) in head.iter().zip(before).zip(row).skip(FIXED) {
            if now != NOT_RUN && rank(now) < rank(before) {
                let guest = row.first().map_or("", String::as_str);
                faults.push(format!("{guest}: {name}: {now}, but {DOCUMENT} states {before}"));
            }
        }
    }
    faults
}

/// Replaces rows by guest, in the order of the list of guests.
fn renewed(document: &str, new: Vec<Vec<String>>) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("no {BEGIN:?} in {DOCUMENT}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no {END:?} in {DOCUMENT}"))?;
    let old = parse(document);
    let mut rows: Vec<Vec<String>> =
        old.iter().filter(|row| new.iter().all(|new| new.first() != row.first())).cloned().collect();
    for mut row in new {
        // A brief run keeps what a whole one wrote.
        if let Some(before) = old.iter().find(|before| before.first() == row.first()) {
            let cells = row.iter_mut().zip(before).filter(|(now, _)| *now == NOT_RUN);
            cells.for_each(|(now, before)| now.clone_from(before));
        }
        rows.push(row);
    }
    let place =
        |row: &Vec<String>| super::GUESTS.iter().position(|guest| Some(guest.name) == row.first().map(String::as_str));
    rows.sort_by_key(place);
    rows.retain(|row| place(row).is_some());
    Ok(format!("{before}{BEGIN}{}\n{END}{after}", markdown(rows.into_iter())))
}

/// True if the document states that not all jobs of this job's ability pass in this guest.
pub(super) fn is_known_to_fail(document: &str, ran: &Ran, job: &Job) -> bool {
    let rows = parse(document);
    let row = rows.iter().find(|row| row.first().is_some_and(|name| name == ran.guest.name));
    let cell = ability(job).and_then(|index| row?.get(FIXED + index));
    cell.is_some_and(|cell| rank(cell) != u32::MAX)
}

/// The document with the table.
pub(super) fn document() -> Result<String> {
    let file = root().join(DOCUMENT);
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

/// Counts of a guest's jobs in the words of cargo's test runner, and its minutes. Failed and skipped jobs that the document
/// states are counted apart.
pub(super) fn tally(ran: &Ran, document: &str) -> String {
    let jobs = &ran.reports.jobs;
    let (passed, others): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| job.passed() && job.skipped().is_none());
    let (known, others): (Vec<&Job>, Vec<&Job>) =
        others.into_iter().partition(|job| is_known_to_fail(document, ran, job));
    let failed = others.iter().filter(|job| !job.passed()).count();
    let skipped = others.len() - failed;
    let word = if failed == 0 && ran.reports.done { "ok" } else { "FAILED" };
    let minutes = ran.took.as_secs_f64() / 60.0;
    let counts = format!("{} passed; {failed} failed; {skipped} ignored", passed.len());
    let stated = format!("{} not passed as documented", known.len());
    format!("test result: {word}. {counts}; {stated}; {} took {minutes:.1} min", ran.guest.name)
}

/// Prints a line to standard output.
pub(super) fn print(line: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use super::super::boot::Job;
    use super::{ABILITIES, BEGIN, END, ability, cell, parse, renewed, road, worse};

    fn job(name: &str, code: i32, output: &str) -> Job {
        Job { name: name.to_owned(), code, millis: 0, output: output.to_owned() }
    }

    #[test]
    fn cell_counts_jobs_that_ran() {
        let (passed, failed, skipped) = (job("a", 0, ""), job("a", 101, ""), job("a", 0, "skipped: no Go\n"));
        assert_eq!(cell([&passed, &skipped].into_iter()), "yes");
        assert_eq!(cell([&passed, &failed, &skipped].into_iter()), "1 of 2");
        assert_eq!(cell([&failed].into_iter()), "no");
        assert_eq!(cell([&skipped].into_iter()), "skipped");
        assert_eq!(cell([].into_iter()), "not run");
    }

    #[test]
    fn job_proves_first_matching_ability() {
        let relay = job("kernel::go_relay::goroutines_pair_every_connection", 0, "");
        assert_eq!(ability(&relay).map(|index| ABILITIES[index].name), Some("Go relay, copies"));
        assert_eq!(road(&[job("doctor", 0, "{\n\"road\": \"fexit\"\n}\n")]), "fexit");
        assert_ne!(ability(&job("kernel::unload::x", 0, "")), ability(&job("kernel::unix::x", 0, "")));
        assert_eq!(ability(&job("noise", 0, "")), None);
    }

    #[test]
    fn rows_of_other_guests_and_text_are_kept() {
        let row = |name: &str, cell: &str| {
            let head = [name, "1.0", "tracepoints"];
            head.into_iter().chain([cell; ABILITIES.len()]).map(str::to_owned).collect::<Vec<_>>()
        };
        let empty = format!("above\n{BEGIN}{END}below\n");
        let one = renewed(&empty, vec![row("6.12-x86_64", "yes"), row("gone", "yes")]).expect("markers");
        let two = renewed(&one, vec![row("6.1-x86_64", "no")]).expect("markers");
        assert!(two.starts_with("above\n") && two.ends_with("below\n"));
        let rows = parse(&two);
        assert_eq!(rows, [row("6.1-x86_64", "no"), row("6.12-x86_64", "yes")]);
        let three = renewed(&two, vec![row("6.1-x86_64", "not run")]).expect("markers");
        assert_eq!(parse(&three), rows, "a brief run keeps cells");
        assert!(worse(&rows, &[row("6.12-x86_64", "not run")]).is_empty());
        let faults = worse(&rows, &[row("6.1-x86_64", "no"), row("6.12-x86_64", "1 of 2")]);
        assert_eq!(worse(&rows, &[row("6.12-x86_64", "skipped")]).len(), ABILITIES.len());
        assert_eq!(faults.len(), ABILITIES.len(), "{faults:?}");
        assert!(worse(&[row("a", "1 of 3")], &[row("a", "2 of 3")]).is_empty());
        assert_eq!(worse(&[row("a", "2 of 3")], &[row("a", "1 of 3")]).len(), ABILITIES.len());
        assert!(renewed("no markers", Vec::new()).is_err());
    }
}
