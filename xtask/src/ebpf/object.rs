//! Turns the linker's output into the committed object: without DWARF, and without this machine's paths.

use std::path::Path;

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use super::btf;

/// True for sections that no loader reads. BTF relocations are among them: those against the beginning of a section
/// are already applied, and the loader finds the others in the symbol table.
fn is_unused(name: &[u8]) -> bool {
    [b".debug_".as_slice(), b".rel.debug_", b".rel.BTF"].iter().any(|prefix| name.starts_with(prefix))
}

/// Removes from a symbol's name the hashes, which differ between clones. Returns `None` if the name has none.
fn without_hash(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if let Some(number) = name.strip_prefix("anon.").and_then(|rest| rest.rsplit('.').next()) {
        return Some(format!("anon.{number}"));
    }
    // The alternate form omits hashes.
    rustc_demangle::try_demangle(name).ok().map(|name| format!("{name:#}"))
}

/// Reduces the linker's output to the committed object.
pub(super) fn reduce(raw: &[u8], root: &Path) -> Result<Vec<u8>> {
    let mut elf = Builder::read(raw).context("the linker's output is no ELF file")?;
    let mut types = None;
    let mut ext = None;
    for section in &mut elf.sections {
        section.delete |= is_unused(section.name.as_slice());
        let SectionData::Data(data) = &section.data else { continue };
        match section.name.as_slice() {
            b".BTF" => types = Some(data.to_vec()),
            b".BTF.ext" => ext = Some(data.to_vec()),
            _ => {}
        }
    }
    let (types, ext) = (types.context("the object has no .BTF")?, ext.context("the object has no .BTF.ext")?);
    let (types, ext) = btf::reduce(&types, &ext, &|path| btf::portable(path, root))?;
    for section in &mut elf.sections {
        let data = match section.name.as_slice() {
            b".BTF" => &types,
            b".BTF.ext" => &ext,
            _ => continue,
        };
        section.data = SectionData::Data(data.clone().into());
    }
    if !elf.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        // LLVM keeps the names of sections and symbols in one table; this writer needs two.
        let names = elf.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    for symbol in &mut elf.symbols {
        if let Some(name) = without_hash(symbol.name.as_slice()) {
            symbol.name = name.into_bytes().into();
        }
    }
    elf.delete_orphans();
    let mut object = Vec::new();
    elf.write(&mut object).context("cannot write the object")?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::without_hash;

    #[test]
    fn symbol_names_lose_hashes() {
        let one = without_hash(b"_RNvNtCsa4hHWuXHJZC_12execpath_bpf5watch8describe");
        assert_eq!(one.as_deref(), Some("execpath_bpf::watch::describe"));
        assert_eq!(without_hash(b"_RNvNtCsdQld2VZN7pV_12execpath_bpf5watch8describe"), one);
        assert_eq!(without_hash(b"anon.e174eb7d90078b7136713263edf8073d.2").as_deref(), Some("anon.2"));
        assert_eq!(without_hash(b"sched_process_exec"), None);
    }
}
