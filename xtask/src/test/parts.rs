//! What is checked and tested, in order, as data.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::tally::Tally;
use super::{Outcome, Session};
use crate::progress::Progress;
use crate::repo::{cargo, root, target};
use crate::{ebpf, fuzz, golang};

/// A part of the whole.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// For `--only`.
    pub(super) name: &'static str,
    /// How long it may take on two cores, from nothing.
    pub(super) minutes: u64,
    /// What it does.
    pub(super) about: &'static str,
    /// Whether CI fails where it cannot run.
    pub(super) vital: bool,
    /// Does it.
    pub(super) run: fn(&mut Session) -> Result<Outcome>,
}

/// Together they stay below the ninety minutes that CI allows.
pub(super) const PARTS: &[Part] = &[
    Part { name: "fmt", minutes: 1, about: "formatting of both workspaces", vital: false, run: fmt },
    Part { name: "hygiene", minutes: 1, about: "documents, paths, kernel lines of probes", vital: false, run: hygiene },
    Part { name: "arch", minutes: 1, about: "which module names which", vital: false, run: arch },
    Part { name: "build", minutes: 5, about: "cargo build, with stable Rust alone", vital: false, run: build },
    Part {
        name: "ebpf",
        minutes: 4,
        about: "the committed BPF object, and a fresh one",
        vital: false,
        run: bpf_object,
    },
    Part { name: "clippy", minutes: 5, about: "lints of both workspaces, as errors", vital: false, run: clippy },
    Part { name: "abi", minutes: 1, about: "layouts of the records", vital: false, run: abi },
    Part { name: "docs", minutes: 3, about: "pages of faults, as the rules say", vital: false, run: docs },
    Part { name: "test", minutes: 8, about: "unit tests, replays, the command line", vital: false, run: tests },
    Part { name: "browser", minutes: 4, about: "drawn pages in a real browser", vital: true, run: browser },
    Part { name: "fuzz", minutes: 12, about: "readers of hostile input, with made-up bytes", vital: true, run: fuzz },
    Part { name: "doc", minutes: 3, about: "documentation, warnings as errors", vital: false, run: doc },
    Part { name: "kernel", minutes: 4, about: "probes in this kernel (root)", vital: true, run: kernel },
    Part { name: "demo", minutes: 3, about: "the path in miniature, traced for real (root)", vital: true, run: demo },
    Part { name: "lab", minutes: 17, about: "end to end on a real cluster (root)", vital: true, run: lab },
    Part { name: "docker", minutes: 6, about: "how much is true through dockershim (root)", vital: true, run: docker },
];

/// This program. Not by its path: `cargo build` may have put another there meanwhile.
const SELF: &str = "/proc/self/exe";

fn xtask(session: &Session, args: &[&str]) -> Command {
    let mut command = session.command(SELF);
    command.args(args);
    command
}

fn cargo_with(session: &Session, args: &[&str]) -> Command {
    let mut command = session.command(cargo());
    command.args(args);
    command
}

fn in_tracer_ebpf(mut command: Command) -> Command {
    command.current_dir(root().join("tracer-ebpf"));
    command
}

fn fmt(session: &mut Session) -> Result<Outcome> {
    let ours = session.check(&mut cargo_with(session, &["fmt", "--all", "--check"]))?;
    let bpf = session.check(&mut in_tracer_ebpf(cargo_with(session, &["fmt", "--check"])))?;
    Ok(both(ours, bpf))
}

fn hygiene(session: &mut Session) -> Result<Outcome> {
    session.check(&mut xtask(session, &["hygiene"]))
}

fn arch(session: &mut Session) -> Result<Outcome> {
    session.check(&mut xtask(session, &["arch"]))
}

fn build(session: &mut Session) -> Result<Outcome> {
    session.check(&mut cargo_with(session, &["build", "--workspace", "--locked"]))
}

fn bpf_object(session: &mut Session) -> Result<Outcome> {
    let committed = session.check(&mut xtask(session, &["ebpf", "--check"]))?;
    // The tests of the kernel and of the lab then load what these sources make, whatever is committed.
    let (object, words) = ebpf::build_fresh()?;
    session.env.insert("EXECPATH_BPF", object.into());
    Ok(both(committed, Outcome::Ran(Tally::success(), words)))
}

fn clippy(session: &mut Session) -> Result<Outcome> {
    let strict = ["--", "-D", "warnings"];
    let mut ours = cargo_with(session, &["clippy", "--workspace", "--all-targets", "--all-features", "--locked"]);
    let ours = session.check(ours.args(strict))?;
    // `--all-targets` leaves out targets with `test = false`.
    let mut privileged = cargo_with(session, &["clippy", "--workspace", "--locked"]);
    privileged.args(["--test", "kernel", "--test", "demo", "--test", "lab"]);
    let privileged = session.check(privileged.args(strict))?;
    // Debian's BPF compiler has no clippy of its own version, and stable's has no `core` for BPF: it looks at the sources as
    // at those of a program for this machine, which shows it the same code.
    let mut bpf = in_tracer_ebpf(cargo_with(session, &["clippy", "--locked", "--target-dir"]));
    bpf.arg(target().join("bpf-clippy"))
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"\x1f-Cpanic=abort");
    let bpf = session.check(bpf.args(strict))?;
    Ok(both(both(ours, privileged), bpf))
}

fn abi(session: &mut Session) -> Result<Outcome> {
    session.check(&mut xtask(session, &["abi", "--check"]))
}

fn docs(session: &mut Session) -> Result<Outcome> {
    session.check(&mut xtask(session, &["docs", "--check"]))
}

fn tests(session: &mut Session) -> Result<Outcome> {
    ensure_terminal();
    session
        .tests(&mut cargo_with(session, &["test", "--workspace", "--locked", "--no-fail-fast", "--", "--show-output"]))
}

/// Sees to what plays the terminal; tests that miss it say so.
fn ensure_terminal() {
    if crate::tools::find("tmux").is_none() {
        drop(crate::apt::install(&["tmux"], &Progress::new()));
    }
}

fn browser(session: &mut Session) -> Result<Outcome> {
    let mut node = crate::browser::node(&Progress::new())?;
    session.tests(node.args(["--test", "--test-concurrency=1", "--test-reporter=tap"]))
}

/// Seconds for each target, and for each target of a soak.
const FUZZ_SECONDS: u64 = 20;
const FUZZ_SOAK_SECONDS: u64 = 3_600;

fn fuzz(session: &mut Session) -> Result<Outcome> {
    if let Some(why) = fuzz::lacking() {
        return Ok(Outcome::Skipped(why));
    }
    if let Some(mut install) = fuzz::install()
        && !session.logged(&mut install)?
    {
        return Ok(Outcome::Ran(Tally::failure(), "cargo-fuzz cannot be installed".to_owned()));
    }
    if !session.logged(&mut fuzz::build())? {
        return Ok(Outcome::Ran(Tally::failure(), "the targets do not build".to_owned()));
    }
    let is_soak = session.env.contains_key("EXECPATH_SOAK");
    let seconds = if is_soak { FUZZ_SOAK_SECONDS } else { FUZZ_SECONDS };
    let (mut tally, mut words) = (Tally::default(), Vec::new());
    for (name, reads_lines) in fuzz::TARGETS {
        let passed = session.logged(&mut fuzz::campaign(name, reads_lines, seconds)?)?;
        tally += if passed { Tally::success() } else { Tally::failure() };
        let executed = fuzz::executed(&fs::read_to_string(&session.log)?).unwrap_or_default();
        words.push(if passed { format!("{name} {executed}") } else { format!("{name}: a finding") });
    }
    Ok(Outcome::Ran(tally, format!("inputs: {}", words.join(", "))))
}

fn doc(session: &mut Session) -> Result<Outcome> {
    let mut doc = cargo_with(session, &["doc", "--workspace", "--no-deps", "--locked"]);
    session.check(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn kernel(session: &mut Session) -> Result<Outcome> {
    if let Some(why) = lacking() {
        return Ok(Outcome::Skipped(why));
    }
    // Tests that need a newer Go than this machine's say that they are skipped; why there is none, they do not know.
    let words = match golang::ensure(golang::TESTED, &Progress::new()) {
        Ok(go) => {
            session.env.insert("EXECPATH_GO", go.into());
            String::new()
        }
        Err(error) => format!("{error:#}").replace('\n', "; "),
    };
    // Translates addresses in a test.
    if crate::tools::find("iptables").is_none() {
        drop(crate::apt::install(&["iptables"], &Progress::new()));
    }
    match privileged(session, "kernel")? {
        Outcome::Ran(tally, _) => Ok(Outcome::Ran(tally, words)),
        skipped @ Outcome::Skipped(_) => Ok(skipped),
    }
}

fn demo(session: &mut Session) -> Result<Outcome> {
    if let Some(why) = lacking() {
        return Ok(Outcome::Skipped(why));
    }
    privileged(session, "demo")
}

fn lab(session: &mut Session) -> Result<Outcome> {
    if let Some(why) = lacking() {
        return Ok(Outcome::Skipped(why));
    }
    // Built before the lab is started, which takes both cores.
    if !has_tests(session, "lab")? {
        return Ok(Outcome::Skipped("there are no tests".to_owned()));
    }
    ensure_terminal();
    // A lab that somebody has up is used, and left.
    let was_up = is_lab_up(session)?;
    let up = session.logged(&mut xtask(session, &["lab", "up"]))?;
    let outcome = if up { privileged(session, "lab") } else { Ok(Outcome::Ran(Tally::failure(), "no lab".to_owned())) };
    if was_up {
        return outcome;
    }
    let down = session.check(&mut xtask(session, &["lab", "down"]))?;
    Ok(both(outcome?, down))
}

/// Whether a lab is up that is somebody's. In CI it is nobody's: a run that was ended has left it, and it goes.
fn is_lab_up(session: &mut Session) -> Result<bool> {
    let is_up = crate::tools::run(&mut xtask(session, &["lab", "env"])).is_ok();
    if is_up && session.ci {
        session.logged(&mut xtask(session, &["lab", "down"]))?;
        return Ok(false);
    }
    Ok(is_up)
}

/// The cluster with the other runtime: sessions judged as in the lab's own tests. It is started and ended for this; a lab that
/// somebody has up with containerd cannot be replaced.
fn docker(session: &mut Session) -> Result<Outcome> {
    if let Some(why) = lacking() {
        return Ok(Outcome::Skipped(why));
    }
    if is_lab_up(session)? {
        return Ok(Outcome::Skipped("a lab is up: cargo xtask lab down".to_owned()));
    }
    let whole = session.env.contains_key("EXECPATH_SOAK");
    let (scale, write) = if whole { ("whole", &["--write", "docs/truth.md"][..]) } else { ("tenth", &[][..]) };
    let mut truth = xtask(session, &["lab", "truth", "--runtime", "docker", "--suite", scale]);
    session.check(truth.args(write))
}

/// What this machine lacks for probes.
fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    (!Path::new("/sys/kernel/btf/vmlinux").exists()).then(|| "this kernel has no BTF".to_owned())
}

/// `--workspace` gives the target the features with which the other tests were built.
fn target_of(session: &Session, test: &str) -> Command {
    cargo_with(session, &["test", "--locked", "--workspace", "--test", test])
}

/// Tests that share one kernel, or one cluster, run one by one.
fn privileged(session: &Session, test: &str) -> Result<Outcome> {
    if !has_tests(session, test)? {
        return Ok(Outcome::Skipped("there are no tests".to_owned()));
    }
    session.tests(target_of(session, test).args(["--", "--test-threads=1", "--show-output"]))
}

fn has_tests(session: &Session, test: &str) -> Result<bool> {
    let list = target_of(session, test).args(["--", "--list"]).output()?;
    // What does not build is not without tests: running it says why.
    Ok(!list.status.success() || String::from_utf8_lossy(&list.stdout).lines().any(|line| line.ends_with(": test")))
}

fn both(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (Outcome::Ran(a, left), Outcome::Ran(b, right)) => {
            let words: Vec<String> = [left, right].into_iter().filter(|words| !words.is_empty()).collect();
            Outcome::Ran(a + b, words.join("; "))
        }
        (Outcome::Ran(tally, words), Outcome::Skipped(why)) | (Outcome::Skipped(why), Outcome::Ran(tally, words)) => {
            let skipped = Tally { skipped: 1, ..Tally::default() };
            Outcome::Ran(tally + skipped, if words.is_empty() { why } else { format!("{words}; {why}") })
        }
        (Outcome::Skipped(one), Outcome::Skipped(_)) => Outcome::Skipped(one),
    }
}
