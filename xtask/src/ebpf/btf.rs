//! Reduces the BTF of the committed object: removes this machine's paths, and the source lines of other crates, since
//! those depend on the installed sources.
//!
//! Types, functions and the repository's own source lines stay: the verifier quotes them when it rejects a program.
//! kernel: Documentation/bpf/btf.rst

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Location of a source file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Portable {
    /// Path that is the same on every machine.
    pub(super) path: String,
    /// True for files of this repository.
    pub(super) in_repository: bool,
}

/// Removes the machine-specific part of a source file's path.
pub(super) fn portable(path: &str, root: &Path) -> Result<Portable> {
    if let Ok(inside) = Path::new(path).strip_prefix(root) {
        return Ok(Portable { path: inside.to_string_lossy().into_owned(), in_repository: true });
    }
    // …/registry/src/INDEX/CRATE/src/lib.rs
    if let Some((_, rest)) = path.split_once("/registry/src/")
        && let Some((_, inside)) = rest.split_once('/')
    {
        return Ok(Portable { path: inside.to_owned(), in_repository: false });
    }
    // Rust's own sources, anywhere in the toolchain.
    if let Some(at) = path.rfind("/library/") {
        return Ok(Portable { path: path[at + 1..].to_owned(), in_repository: false });
    }
    bail!("the object names a source file that is neither of the repository nor of a crate: {path}")
}

const MAGIC: u16 = 0xeb9f;
/// `struct btf_ext_header` since CO-RE.
const EXT_HEADER: usize = 32;

/// Returns `.BTF` and `.BTF.ext` with portable paths and without unused strings.
pub(super) fn reduce(
    types: &[u8],
    ext: &[u8],
    portable: &dyn Fn(&str) -> Result<Portable>,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let types = Words(types);
    ensure!(types.half(0)? == MAGIC, "this is not BTF");
    let header = types.size(4)?;
    let kept = types.part(header + types.size(8)?, types.size(12)?)?;
    let mut strings = Strings::new(types.part(header + types.size(16)?, types.size(20)?)?);

    // Types keep their bytes, but for the offsets of their names.
    let mut out_types = kept.to_vec();
    rename_types(&mut out_types, &mut strings)?;

    let ext = Words(ext);
    ensure!(ext.half(0)? == MAGIC, "this is not BTF");
    let base = ext.size(4)?;
    ensure!(base < EXT_HEADER || ext.size(28)? == 0, "the object has CO-RE relocations, which this program would drop");
    let functions = Info::read(ext.part(base + ext.size(8)?, ext.size(12)?)?)?;
    let lines = Info::read(ext.part(base + ext.size(16)?, ext.size(20)?)?)?;
    let functions = out_functions(&functions, &mut strings)?;
    let lines = out_lines(&lines, &functions, &mut strings, portable)?;

    // The header of .BTF.ext, with offsets from its end: functions, lines, no CO-RE relocations.
    let mut out_ext = Vec::new();
    out_ext.extend(MAGIC.to_le_bytes());
    out_ext.extend([1, 0]);
    let sizes = [EXT_HEADER, 0, functions.len(), functions.len(), lines.len(), functions.len() + lines.len(), 0];
    for size in sizes {
        out_ext.extend(u32::try_from(size)?.to_le_bytes());
    }
    out_ext.extend(functions);
    out_ext.extend(lines);

    // The header of .BTF comes last, because only now the strings are complete.
    let mut out = Vec::new();
    out.extend(MAGIC.to_le_bytes());
    out.extend([1, 0]);
    for size in [24, 0, out_types.len(), out_types.len(), strings.new.len()] {
        out.extend(u32::try_from(size)?.to_le_bytes());
    }
    out.extend(out_types);
    out.extend(strings.new);
    Ok((out, out_ext))
}

/// Moves every name in the types to its new offset.
fn rename_types(types: &mut [u8], strings: &mut Strings<'_>) -> Result<()> {
    let mut at = 0;
    while at < types.len() {
        rename(types, at, strings)?;
        let info = Words(types).word(at + 4)?;
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        at += 12;
        // Bytes after a type: `once` for the type, then `each` for every member. `named` is true if a member begins
        // with a name.
        let (once, each, named) = match kind {
            // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
            2 | 7..=12 | 16 | 18 => (0, 0, false),
            // integer, variable, declaration tag
            1 | 14 | 17 => (4, 0, false),
            // array
            3 => (12, 0, false),
            // struct, union, 64-bit enum
            4 | 5 | 19 => (0, 12, true),
            // enum, function prototype
            6 | 13 => (0, 8, true),
            // section
            15 => (0, 12, false),
            kind => bail!("unknown BTF kind {kind}"),
        };
        if named {
            for member in 0..count {
                rename(types, at + member * each, strings)?;
            }
        }
        at += once + count * each;
    }
    Ok(())
}

fn rename(bytes: &mut [u8], at: usize, strings: &mut Strings<'_>) -> Result<()> {
    let new = strings.move_string(Words(bytes).word(at)?)?;
    bytes.get_mut(at..at + 4).context("BTF is truncated")?.copy_from_slice(&new.to_le_bytes());
    Ok(())
}

fn out_functions(functions: &Info, strings: &mut Strings<'_>) -> Result<Vec<u8>> {
    let mut sections = Vec::new();
    for (section, records) in &functions.sections {
        sections.push((strings.move_string(*section)?, records.clone()));
    }
    Info { record: functions.record, sections }.written()
}

/// Keeps the repository's own lines, and the first line of every function, which the verifier requires.
fn out_lines(
    lines: &Info,
    functions: &[u8],
    strings: &mut Strings<'_>,
    portable: &dyn Fn(&str) -> Result<Portable>,
) -> Result<Vec<u8>> {
    let starts: BTreeSet<(u32, u32)> = Info::read(functions)?
        .sections
        .iter()
        .flat_map(|(section, records)| records.iter().filter_map(|record| Some((*section, *record.first()?))))
        .collect();
    let mut sections = Vec::new();
    for (section, records) in &lines.sections {
        let section = strings.move_string(*section)?;
        let mut kept: Vec<Vec<u32>> = Vec::new();
        for record in records {
            let &[at, file, text, place] = record.as_slice() else { bail!("unknown layout of BTF lines") };
            let Portable { path, in_repository } = portable(strings.text(file)?)?;
            if !in_repository && !starts.contains(&(section, at)) {
                continue;
            }
            let text = if in_repository { strings.move_string(text)? } else { 0 };
            kept.push(vec![at, strings.put(path.as_bytes())?, text, place]);
        }
        sections.push((section, kept));
    }
    Info { record: lines.record, sections }.written()
}

/// A part of `.BTF.ext`: records of one size, by section.
struct Info {
    record: u32,
    sections: Vec<(u32, Vec<Vec<u32>>)>,
}

impl Info {
    fn read(bytes: &[u8]) -> Result<Self> {
        let words = Words(bytes);
        let record = words.word(0)?;
        let width = record as usize / 4;
        let mut sections = Vec::new();
        let mut at = 4;
        while at < bytes.len() {
            let (name, count) = (words.word(at)?, words.size(at + 4)?);
            at += 8;
            let mut records = Vec::new();
            for _ in 0..count {
                records.push((0..width).map(|word| words.word(at + 4 * word)).collect::<Result<_>>()?);
                at += 4 * width;
            }
            sections.push((name, records));
        }
        Ok(Self { record, sections })
    }

    fn written(&self) -> Result<Vec<u8>> {
        let mut words = vec![self.record];
        for (name, records) in &self.sections {
            words.extend([*name, u32::try_from(records.len())?]);
            words.extend(records.iter().flatten());
        }
        Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
    }
}

/// The old string table and the new one.
struct Strings<'a> {
    old: &'a [u8],
    new: Vec<u8>,
    places: BTreeMap<Vec<u8>, u32>,
}

impl<'a> Strings<'a> {
    fn new(old: &'a [u8]) -> Self {
        // The first string is always empty.
        Self { old, new: vec![0], places: BTreeMap::from([(Vec::new(), 0)]) }
    }

    fn text(&self, at: u32) -> Result<&'a str> {
        let tail = self.old.get(at as usize..).context("a BTF string is outside the table")?;
        let text = tail.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).context("a BTF string is not UTF-8")
    }

    fn move_string(&mut self, at: u32) -> Result<u32> {
        self.put(self.text(at)?.as_bytes())
    }

    fn put(&mut self, text: &[u8]) -> Result<u32> {
        if let Some(place) = self.places.get(text) {
            return Ok(*place);
        }
        let place = u32::try_from(self.new.len())?;
        self.new.extend(text);
        self.new.push(0);
        self.places.insert(text.to_vec(), place);
        Ok(place)
    }
}

/// Little-endian numbers at offsets that may lie outside.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn part(&self, at: usize, len: usize) -> Result<&'a [u8]> {
        at.checked_add(len).and_then(|end| self.0.get(at..end)).context("BTF is truncated")
    }

    fn half(&self, at: usize) -> Result<u16> {
        Ok(u16::from_le_bytes(self.part(at, 2)?.try_into()?))
    }

    fn word(&self, at: usize) -> Result<u32> {
        Ok(u32::from_le_bytes(self.part(at, 4)?.try_into()?))
    }

    fn size(&self, at: usize) -> Result<usize> {
        Ok(usize::try_from(self.word(at)?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Portable, portable};

    fn of(path: &str) -> Option<Portable> {
        portable(path, Path::new("/home/me/execpath")).ok()
    }

    #[test]
    fn paths_lose_machine_specific_part() {
        let is = |path: &str, in_repository| Some(Portable { path: path.to_owned(), in_repository });
        assert_eq!(of("/home/me/execpath/tracer-ebpf/src/emit.rs"), is("tracer-ebpf/src/emit.rs", true));
        assert_eq!(of("/c/registry/src/index-1/aya-ebpf-0.2.1/src/lib.rs"), is("aya-ebpf-0.2.1/src/lib.rs", false));
        assert_eq!(of("/usr/src/rustc-1.96.0/library/core/src/hint.rs"), is("library/core/src/hint.rs", false));
        assert_eq!(of("/rustc/0a1b/library/core/src/hint.rs"), is("library/core/src/hint.rs", false));
    }

    #[test]
    fn unknown_path_is_rejected() {
        assert_eq!(of("/home/me/elsewhere/lib.rs"), None);
    }
}
