//! Go version of a program, from its section `.go.buildinfo`, which stripped binaries keep.
//!
//! The process's owner controls the file. This reader checks every size before it reads, which lazy ELF libraries do not
//! promise.

use std::{
    fs::File,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use crate::model::Program;

/// Sections of a program. A program has some thirty; a table of 4,096 headers is 256 KiB.
const MAX_SECTIONS: usize = 4_096;
/// Size of an Elf64_Shdr.
const SECTION: usize = 64;
/// Bytes of the names of all sections.
const MAX_NAMES: u64 = 64 << 10;
const BUILDINFO: &[u8] = b".go.buildinfo\0";
/// src/debug/buildinfo/buildinfo.go: `buildInfoMagic`, flags at 15, from Go 1.18 the version in line at 32.
const MAGIC: &[u8] = b"\xff Go buildinf:";
const FLAGS: usize = 15;
const IN_LINE: u8 = 2;
const VERSION: usize = 32;
/// `go1.26.6 X:nodwarf5` and the like.
const MAX_VERSION: usize = 64;

/// Language of a program; `None` if the file cannot be read, or is no 64-bit little-endian ELF file.
pub(super) fn program(path: &Path) -> Option<Program> {
    // /proc/PID/exe leads to a running file, so to no FIFO or device. Open it non-blocking all the same.
    let file = File::options().read(true).custom_flags(rustix_nonblock()).open(path).ok()?;
    let head: [u8; 64] = read(&file, 0)?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    match buildinfo(&file, &head) {
        Some(info) => Some(Program::Go(version(&info).unwrap_or_default())),
        None => Some(Program::Other),
    }
}

fn rustix_nonblock() -> i32 {
    // The flag's bits fit: it is 0o4000 (include/uapi/asm-generic/fcntl.h).
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

fn read<const N: usize>(file: &File, at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

/// First bytes of the section; `None` if there is none. Fields of Elf64_Ehdr and Elf64_Shdr by their offsets (elf(5)).
fn buildinfo(file: &File, head: &[u8; 64]) -> Option<Vec<u8>> {
    let (table_at, count, names_index) = (word(head, 40)?, half(head, 60)?, half(head, 62)?);
    if half(head, 58)? != SECTION || count > MAX_SECTIONS {
        return None;
    }
    let mut table = vec![0; count * SECTION];
    file.read_exact_at(&mut table, table_at).ok()?;
    let section = |index: usize| table.get(index * SECTION..(index + 1) * SECTION);
    let names = section(names_index)?;
    let (names_at, names_size) = (word(names, 24)?, word(names, 32)?.min(MAX_NAMES));
    let mut names = vec![0; usize::try_from(names_size).ok()?];
    file.read_exact_at(&mut names, names_at).ok()?;
    for header in table.chunks_exact(SECTION) {
        let name = usize::try_from(u32::from_le_bytes(header.get(..4)?.try_into().ok()?)).ok()?;
        if names.get(name..).is_some_and(|name| name.starts_with(BUILDINFO)) {
            let size = word(header, 32)?.min(u64::try_from(VERSION + 1 + MAX_VERSION).ok()?);
            let mut info = vec![0; usize::try_from(size).ok()?];
            file.read_exact_at(&mut info, word(header, 24)?).ok()?;
            return Some(info);
        }
    }
    None
}

/// Go version such as `go1.19.8`; `None` before Go 1.18, which stores a pointer instead.
fn version(info: &[u8]) -> Option<String> {
    if !info.starts_with(MAGIC) || info.get(FLAGS)? & IN_LINE == 0 {
        return None;
    }
    // The length is a varint. Versions are short enough for its first byte.
    let len = usize::from(*info.get(VERSION)?);
    let text = info.get(VERSION + 1..VERSION + 1 + len.min(MAX_VERSION))?;
    let text = std::str::from_utf8(text).ok()?;
    (text.starts_with("go1.") || text.starts_with("devel")).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_in_another_language_has_no_version() {
        assert_eq!(program(Path::new("/proc/self/exe")), Some(Program::Other));
        assert_eq!(program(Path::new("/dev/null")), None);
        assert_eq!(program(Path::new("/nowhere")), None);
    }

    #[test]
    fn version_is_in_line_since_go_1_18() {
        let mut info = vec![0; 64];
        info[..MAGIC.len()].copy_from_slice(MAGIC);
        assert_eq!(version(&info), None, "a pointer");
        info[FLAGS] = IN_LINE;
        info[VERSION] = 8;
        info[VERSION + 1..VERSION + 9].copy_from_slice(b"go1.19.8");
        assert_eq!(version(&info).as_deref(), Some("go1.19.8"));
        info[VERSION] = 255;
        assert_eq!(version(&info), None, "longer than there is");
    }

    #[test]
    fn hostile_files_never_panic() {
        use std::io::Write;
        let hostile = |shoff: u64, shnum: u16, shstrndx: u16| {
            let mut head = [0_u8; 64];
            head[..6].copy_from_slice(b"\x7fELF\x02\x01");
            head[40..48].copy_from_slice(&shoff.to_le_bytes());
            head[58..60].copy_from_slice(&64_u16.to_le_bytes());
            head[60..62].copy_from_slice(&shnum.to_le_bytes());
            head[62..64].copy_from_slice(&shstrndx.to_le_bytes());
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&head).unwrap();
            program(file.path())
        };
        for (shoff, shnum, shstrndx) in [(u64::MAX, 1, 0), (0, u16::MAX, 0), (0, 1, u16::MAX), (0, 0, 0), (0, 1, 0)] {
            assert_eq!(hostile(shoff, shnum, shstrndx), Some(Program::Other));
        }
    }
}
