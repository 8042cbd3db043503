//! Runs the targets in `fuzz`: sets up cargo-fuzz and seeds, and needs a nightly compiler.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::repo::{cargo, root, target};
use crate::tools::{command, find, run};

/// Every target, and true if it reads lines of recordings.
pub(crate) const TARGETS: [(&str, bool); 6] = [
    ("recording", true),
    ("decode", false),
    ("correlate", true),
    ("diagnose", true),
    ("audit", false),
    ("names", false),
];

/// Longest input in bytes: some 200 lines of a recording.
const LENGTH: usize = 64 << 10;

/// Limits of a target: memory in MiB, and seconds for one input.
const MEMORY: u32 = 2_048;
const PATIENCE: u32 = 30;

/// The reason why targets cannot be built here, or `None` if they can.
pub(crate) fn missing_requirement() -> Option<String> {
    let is_there = |list: String| list.lines().any(|line| line.starts_with("nightly"));
    let nightly =
        find("rustup").and_then(|rustup| run(command(rustup).args(["toolchain", "list"])).ok()).is_some_and(is_there);
    (!nightly).then(|| "no nightly toolchain: rustup toolchain install nightly --profile minimal".to_owned())
}

/// The command that installs cargo-fuzz, or `None` if it is installed.
pub(crate) fn install() -> Option<Command> {
    if find("cargo-fuzz").is_some() || cargo_bin().join("cargo-fuzz").is_file() {
        return None;
    }
    let mut install = command(cargo());
    install.args(["install", "cargo-fuzz", "--locked"]);
    Some(install)
}

/// Directory of programs installed by cargo, which may be missing from PATH.
fn cargo_bin() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    home.unwrap_or_default().join("bin")
}

/// cargo-fuzz with the nightly compiler, independent of the compiler that runs this task.
fn cargo_fuzz(word: &str) -> Command {
    let mut fuzz = command("rustup");
    let path =
        std::env::join_paths([cargo_bin()].into_iter().chain(std::env::split_paths(&crate::tools::search_path())));
    fuzz.env("PATH", path.unwrap_or_default()).current_dir(root());
    for variable in ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
        fuzz.env_remove(variable);
    }
    // No sanitizer: sanitizers find errors of unsafe code and halve the speed. `-a`: debug assertions and overflow
    // checks.
    fuzz.args(["run", "nightly", "cargo", "fuzz", word, "--sanitizer", "none", "-a", "--target-dir"])
        .arg(target().join("fuzz"));
    fuzz
}

/// Builds every target.
pub(crate) fn build() -> Command {
    cargo_fuzz("build")
}

/// Runs a target for this many seconds. Findings go to the target directory; the committed corpus stays unchanged.
pub(crate) fn campaign(name: &str, reads_lines: bool, seconds: u64) -> Result<Command> {
    let found = target().join("fuzz-found").join(name);
    let seeds = target().join("fuzz-seeds").join(name);
    for folder in [&found, &seeds] {
        fs::create_dir_all(folder)?;
    }
    if reads_lines {
        seed(&seeds)?;
    }
    let mut fuzz = cargo_fuzz("run");
    fuzz.arg(name).args([&found, &seeds]);
    let corpus = root().join("fuzz/corpus").join(name);
    fuzz.args(Some(corpus).filter(|corpus| corpus.is_dir())).arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-rss_limit_mb={MEMORY}"),
        format!("-timeout={PATIENCE}"),
        format!("-max_len={LENGTH}"),
        "-print_final_stats=1".to_owned(),
    ]);
    Ok(fuzz)
}

/// Writes pieces of `tests/recordings`, without their headers, as inputs.
fn seed(folder: &Path) -> Result<()> {
    for file in fs::read_dir(root().join("tests/recordings"))? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".jsonl.zst") {
            continue;
        }
        let stream = zstd::Decoder::new(fs::File::open(&path)?).with_context(|| name.clone())?;
        let mut piece = Vec::new();
        let mut number = 0;
        for line in BufReader::new(stream).lines().skip(1) {
            let line = line?;
            if piece.len() + line.len() >= LENGTH {
                fs::write(folder.join(format!("{name}-{number}")), &piece)?;
                (piece, number) = (Vec::new(), number + 1);
            }
            piece.extend_from_slice(line.as_bytes());
            piece.push(b'\n');
        }
        fs::write(folder.join(format!("{name}-{number}")), &piece)?;
    }
    Ok(())
}

/// Number of inputs tried, from libFuzzer's output.
pub(crate) fn executed(log: &str) -> Option<u64> {
    log.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_source_and_row() {
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("manifest is readable");
        let readme = fs::read_to_string(root().join("fuzz/README.md")).expect("README is readable");
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        for (name, _) in TARGETS {
            assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            assert!(readme.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn input_count_is_read_from_log() {
        let log = "stat::number_of_executed_units: 12\nDone\nstat::number_of_executed_units: 40513\n";
        assert_eq!(executed(log), Some(40_513));
        assert_eq!(executed("none"), None);
    }
}
