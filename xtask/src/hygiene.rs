//! `cargo xtask hygiene`: checks that no compiler makes.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::hint::hinted;
use crate::repo::{files, root};

/// Extensions of generated or binary files.
const SKIPPED_EXTENSIONS: [&str; 6] = ["o", "snap", "zst", "lock", "jsonl", "png"];

/// Documents with back-quoted paths that must exist.
const CHECKED_DOCUMENTS: [&str; 4] =
    ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/compatibility.md", "docs/limitations.md"];

/// Beginnings of back-quoted paths.
const PATH_PREFIXES: [&str; 8] =
    [".ci/", "docs/", "fuzz/", "tests/", "tracer-common/", "tracer-ebpf/", "tracer/", "xtask/"];

/// Check links and paths in documents, ends of lines, and the kernel source named by each probe.
#[derive(clap::Args)]
pub(crate) struct Hygiene {}

impl Hygiene {
    #[expect(clippy::unused_self, reason = "every task is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        let files = files()?;
        ensure!(!files.is_empty(), "git lists no files");
        let mut wrong = Vec::new();
        for file in &files {
            let extension = file.extension().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
            if SKIPPED_EXTENSIONS.contains(&extension.as_str())
                || file.starts_with("fuzz/corpus")
                || file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LICENSE-"))
            {
                continue;
            }
            let text = fs::read(root().join(file)).with_context(|| format!("cannot read {}", file.display()))?;
            let Ok(text) = String::from_utf8(text) else { continue };
            let mut found = lines(&text);
            if extension == "md" {
                found.extend(links(&text, file));
            }
            if CHECKED_DOCUMENTS.iter().any(|document| file == Path::new(document)) {
                found.extend(paths(&text));
            }
            if file.starts_with("tracer-ebpf/src/probes") {
                found.extend(probes(&text));
            }
            wrong.extend(found.into_iter().map(|it| format!("{}: {it}", file.display())));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(hinted(wrong.join("\n"), "fix these by hand"))
    }
}

fn lines(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.is_empty() && !text.ends_with('\n') {
        wrong.push("no newline at the end".to_owned());
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t', '\r']) {
            wrong.push(format!("line {number}: trailing white space"));
        }
        if ["<<<<<<< ", ">>>>>>> "].iter().any(|mark| line.starts_with(mark)) {
            wrong.push(format!("line {number}: a conflict marker"));
        }
    }
    wrong
}

/// Finds relative links without a target.
fn links(text: &str, file: &Path) -> Vec<String> {
    let dir = file.parent().unwrap_or(Path::new(""));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '#']).next());
    let relative =
        targets.filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"));
    relative
        .filter(|target| !root().join(normal(&dir.join(target))).exists())
        .map(|target| format!("broken link to {target}"))
        .collect()
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => out.push(part),
        }
    }
    out
}

/// Finds missing files among the back-quoted paths that begin like one of the repository.
fn paths(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| PATH_PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .filter(|word| !word.contains(['*', ' ', '<', '{', '…']) && !root().join(word).exists())
        .map(|word| format!("{word} does not exist"))
        .collect()
}

/// Finds probes that do not name the kernel source they rely on.
fn probes(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_probe = |line: &str| line.starts_with("#[btf_tracepoint") || line.starts_with("#[tracepoint");
    let names_source = |at: usize| {
        lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("//") || line.starts_with("#["))
            .any(|line| line.contains("kernel: "))
    };
    (0..lines.len())
        .filter(|at| is_probe(lines[*at]) && !names_source(*at))
        .map(|at| format!("line {}: a probe without a `kernel:` line", at + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{lines, links, normal, paths, probes};

    #[test]
    fn planted_faults_are_found() {
        assert_eq!(lines("a \nb").len(), 2);
        assert_eq!(links("[a](nowhere.md) [b](https://x/y) [c](#d)", Path::new("docs/x.md")).len(), 1);
        assert_eq!(paths("`tracer/src/nowhere.rs` and `tracer/src/lib.rs`").len(), 1);
        assert_eq!(probes("/// kernel: a\n#[tracepoint]\nfn a() {}\n\n#[tracepoint]\nfn b() {}").len(), 1);
    }

    #[test]
    fn parent_directory_in_link_is_resolved() {
        assert_eq!(normal(Path::new("docs/../LICENSE-MIT")), Path::new("LICENSE-MIT"));
    }
}
