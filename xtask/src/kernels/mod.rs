//! `cargo xtask kernels`: boots Debian's kernels under QEMU and runs the kernel tests, the demo and the doctor in each.
//!
//! * `guests` has the kernels, `packages` finds and unpacks them;
//! * `programs` builds the programs of a guest, `cross` for arm64, `image` packs them with a user space;
//! * `init.sh` is the first process of a guest, `boot` reads its reports;
//! * `report` makes the table of docs/compatibility.md, `verifier` watches instruction counts, `hosts` keeps the facts of each kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::boot::{Job, Reports};
pub(crate) use self::cross::{Cross, toolchain};
pub(crate) use self::guests::Arch;
use self::guests::{GUESTS, Guest};
use self::packages::Suite;
use self::programs::Built;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::target;
use crate::{apt, tools};

mod boot;
mod cross;
mod guests;
mod hosts;
mod image;
mod packages;
mod programs;
mod report;
mod verifier;

/// Programs that this task calls, and their packages. qemu-utils is not needed, and conflicts with other packages.
const TOOLS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
];

/// Longest time of a guest.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// Seconds for one job in a guest. Conditions end tests; this limit ends hangs.
const JOB_SECONDS: u32 = 300;

/// Run the kernel tests, the demo and the doctor on Debian's kernels, under QEMU.
///
/// Writes the table of docs/compatibility.md and the verifier's instruction counts. Without options it runs the guests of
/// CI. Needs Debian and about 15 minutes.
#[derive(clap::Args)]
pub(crate) struct Kernels {
    /// Run every guest.
    #[arg(long)]
    all: bool,
    /// Run only these guests; repeatable.
    #[arg(long, value_name = "GUEST", conflicts_with = "all")]
    only: Vec<String>,
    /// List the guests.
    #[arg(long)]
    list: bool,
    /// Run only the tests of the kernel's part: roads, sockets, FIFOs, processes, losses, and one demo.
    #[arg(long)]
    brief: bool,
    /// Run only tests whose names match this pattern of a shell, such as `go_relay::*`; repeatable. Nothing is written.
    #[arg(long, value_name = "PATTERN", conflicts_with = "brief")]
    job: Vec<String>,
    /// Write nothing; fail if the table or an instruction count would change for the worse.
    #[arg(long)]
    check: bool,
    /// Accept instruction counts that grew.
    #[arg(long, conflicts_with = "check")]
    accept_growth: bool,
}

/// A guest that ran.
struct Ran {
    guest: &'static Guest,
    reports: Reports,
    took: Duration,
}

impl Kernels {
    pub(crate) fn run(self) -> Result<()> {
        if self.list {
            for guest in GUESTS {
                report::print(&format!("{:14} {}", guest.name, if guest.in_ci { "in CI" } else { "with --all" }))?;
            }
            return Ok(());
        }
        if let Some(unknown) = self.only.iter().find(|name| GUESTS.iter().all(|guest| guest.name != **name)) {
            return Err(hinted(format!("unknown guest {unknown}"), "see `cargo xtask kernels --list`"));
        }
        let is_chosen = |guest: &&Guest| match (self.all, self.only.as_slice()) {
            (true, _) => true,
            (false, []) => guest.in_ci,
            (false, only) => only.iter().any(|name| name == guest.name),
        };
        let progress = Progress::new();
        let missing: Vec<&str> =
            TOOLS.iter().filter(|(name, _)| tools::find(name).is_none()).map(|(_, package)| *package).collect();
        apt::install(&missing, &progress)?;
        let mut built: BTreeMap<Arch, Built> = BTreeMap::new();
        let mut ran = Vec::new();
        for guest in GUESTS.iter().filter(is_chosen) {
            let programs = match built.remove(&guest.arch) {
                Some(programs) => programs,
                None => programs::build(guest.arch, &progress)?,
            };
            ran.push(self.run_guest(guest, &programs, &progress)?);
            built.insert(guest.arch, programs);
        }
        self.conclude(&ran)
    }

    fn run_guest(&self, guest: &'static Guest, built: &Built, progress: &Progress) -> Result<Ran> {
        let begin = Instant::now();
        let (kernel, vmlinuz) = kernel(guest, progress)?;
        let user = image::user_space(guest.arch, progress)?;
        let dir = target().join("kernels");
        fs::create_dir_all(&dir)?;
        let (initramfs, log) = (dir.join(format!("{}.cpio", guest.name)), dir.join(format!("{}.log", guest.name)));
        let only: Vec<String> = match (self.brief, self.job.as_slice()) {
            (true, _) => BRIEF.map(str::to_owned).to_vec(),
            (false, []) => vec!["*".to_owned()],
            (false, patterns) => patterns.to_vec(),
        };
        let jobs = image::Jobs { lines: &jobs(), only: &only, skip: SKIPPED };
        image::assemble(&initramfs, (guest.arch, &kernel, &user), built, &jobs)?;
        let qemu = boot::qemu(guest.arch, &vmlinuz, &initramfs);
        progress.report(format!("{}: {}", guest.name, tools::shown(&qemu)));
        let reports = boot::boot(qemu, &log, LIMIT, |job| {
            let result = if job.passed() { job.skipped().map_or("ok", |_| "skipped") } else { "FAILED" };
            progress.report(format!("{}: {result:7} {} ({:.1} s)", guest.name, job.name, seconds(job)));
        })?;
        let took = begin.elapsed();
        progress.report(format!("{}: {:.1} min; log: {}", guest.name, took.as_secs_f64() / 60.0, log.display()));
        Ok(Ran { guest, reports, took })
    }

    /// Prints and writes the results.
    fn conclude(&self, ran: &[Ran]) -> Result<()> {
        let before = report::document()?;
        let mut faults = Vec::new();
        for Ran { guest, reports, .. } in ran {
            for note in &reports.notes {
                report::print(&format!("{}: {note}", guest.name))?;
            }
            for job in reports.jobs.iter().filter(|job| !job.passed()) {
                report::print(&format!("{}: {} ended with {}:", guest.name, job.name, job.code))?;
                // The prefix keeps the counts of a guest's test runner from being read as this command's.
                job.output.lines().try_for_each(|line| report::print(&format!("    | {line}")))?;
            }
            match &reports.release {
                None => faults.push(format!("{} does not boot", guest.name)),
                Some(_) if !reports.done => faults.push(format!("{} did not run all jobs", guest.name)),
                Some(_) => {}
            }
        }
        let partial = !self.job.is_empty();
        faults.extend(verifier::review(ran, self.check || partial, self.accept_growth)?);
        if !partial {
            report::print(&report::table(ran))?;
            faults.extend(report::review(ran, self.check)?);
            if !self.check {
                hosts::write(ran)?;
            }
        }
        for ran in ran {
            report::print(&report::tally(ran, &before))?;
        }
        if !faults.is_empty() {
            bail!("{}", faults.join("\n"));
        }
        Ok(())
    }
}

fn seconds(job: &Job) -> f64 {
    Duration::from_millis(job.millis).as_secs_f64()
}

/// Tests of a brief run, as patterns of a shell: those that prove an ability of the table, at the lowest price.
const BRIEF: [&str; 13] = [
    "roads::*",
    "go_relay::*",
    "creator::*",
    "tcp::*",
    "unix::*",
    "fifo::*",
    "process::*",
    "scan_methods::*",
    "lost_records::*",
    "full_maps::*",
    "contained::*",
    "verifier::*",
    "demo_traces_complete_session",
];

/// Tests that do not run in guests, as patterns of a shell.
const SKIPPED: &[&str] = &[
    // It reads the memory of Go programs, alike on every kernel, under load: minutes on an emulated machine.
    "kernel::idle_execs::stale_stack_words_*",
    // Ninety busy processes: time limits of a real machine.
    "kernel::overload::*",
];

/// The job list of every guest.
fn jobs() -> String {
    let job = |kind, name, words| image::job(kind, name, JOB_SECONDS, words);
    job("once", "doctor", "execpath doctor -o json")
        + &job("tests", "kernel", "/tests/deps/kernel")
        + &job("tests", "demo", "/tests/deps/demo")
}

/// Unpacks a guest's kernel. Returns the package's directory and the kernel in it.
fn kernel(guest: &Guest, progress: &Progress) -> Result<(PathBuf, PathBuf)> {
    for name in guest.suites {
        let suite = Suite::open(name, guest.arch)?;
        let names = suite.names("linux-image-", progress)?;
        let Some(package) = guest.newest(names.iter().map(String::as_str)) else { continue };
        let dir = suite.unpack_alone(package, &[package], progress)?;
        let vmlinuz = packages::entry(&dir.join("boot"), "vmlinuz")?;
        return Ok((dir, vmlinuz));
    }
    Err(hinted(
        format!("no kernel for {} in {}", guest.name, guest.suites.join(", ")),
        "Debian no longer has it: change xtask/src/kernels/guests.rs",
    ))
    .context("a guest cannot boot")
}
