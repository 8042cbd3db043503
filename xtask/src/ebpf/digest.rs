//! Digests of the object's sources.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::hint::hinted;

/// Path of the committed object's card, from the root.
pub(super) const CARD: &str = "tracer/bpf/execpath.bpf.digest";

/// Sources of the object: whole directories, and files. The workspace's Cargo.toml is left out: it gives only the
/// edition to tracer-common, and it changes with every dependency of the tracer.
const SOURCES: [&str; 5] = [
    "tracer-common/Cargo.toml",
    "tracer-common/src",
    "tracer-ebpf/Cargo.lock",
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/src",
];

/// The card beside the object, one fact per line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// SHA-256 over the names and contents of the sources.
    pub(super) sources: String,
    /// SHA-256 of the object.
    pub(super) object: String,
    /// Compiler and linker. Another toolchain builds a different object from the same sources.
    pub(super) toolchain: String,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, object, toolchain } = self;
        writeln!(f, "sources {sources}\nobject {object}\ntoolchain {toolchain}")
    }
}

impl Card {
    /// Reads the committed card.
    pub(super) fn committed(root: &Path) -> Result<Self> {
        let path = root.join(CARD);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).ok_or_else(|| hinted(format!("{CARD} is damaged"), "run cargo xtask ebpf to write it again"))
    }

    fn parse(text: &str) -> Option<Self> {
        let fact =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
        Some(Self { sources: fact("sources")?, object: fact("object")?, toolchain: fact("toolchain")? })
    }
}

/// SHA-256 of the object.
pub(super) fn of_object(object: &[u8]) -> String {
    hex(Sha256::digest(object).as_slice())
}

/// SHA-256 over the sources, in the order of their names.
pub(super) fn of_sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut files)?;
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let content = fs::read(root.join(&file)).with_context(|| format!("cannot read {}", file.display()))?;
        // Include lengths, so that no text can move between name and content or between files.
        let name = file.to_string_lossy();
        digest.update(format!("{} {name} {}\n", name.len(), content.len()));
        digest.update(&content);
    }
    Ok(hex(digest.finalize().as_slice()))
}

fn collect(root: &Path, path: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    let full = root.join(path);
    if !full.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(&full).with_context(|| format!("cannot read {}", full.display()))? {
        collect(root, &path.join(entry?.file_name()), into)?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Card, SOURCES, of_sources};

    #[test]
    fn card_round_trips() {
        let text = |name: &str| name.to_owned();
        let card =
            Card { sources: text("a1"), object: text("b2"), toolchain: text("rustc 1.96.0 + bpf-linker 0.10.3") };
        assert_eq!(Card::parse(&card.to_string()), Some(card));
        assert_eq!(Card::parse("sources a1\n"), None);
    }

    #[test]
    fn digest_covers_exactly_the_sources() {
        let dir = tempfile::tempdir().expect("a directory");
        for source in SOURCES {
            let path = dir.path().join(source);
            let file = if source.ends_with("src") { path.join("deep/lib.rs") } else { path };
            fs::create_dir_all(file.parent().expect("a directory")).expect("directory is created");
            fs::write(&file, "1").expect("file is written");
        }
        let before = of_sources(dir.path()).expect("sources are readable");
        fs::create_dir_all(dir.path().join("tracer-ebpf/target")).expect("directory is created");
        fs::write(dir.path().join("tracer-ebpf/target/x"), "2").expect("file is written");
        assert_eq!(of_sources(dir.path()).expect("sources are readable"), before);
        fs::write(dir.path().join("tracer-common/src/deep/lib.rs"), "2").expect("file is written");
        assert_ne!(of_sources(dir.path()).expect("sources are readable"), before);
    }
}
