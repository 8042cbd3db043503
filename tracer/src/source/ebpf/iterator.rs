//! Open files of all processes, by a BPF iterator: one program that is loaded alone and runs while its output is read.
//!
//! aya's loader first parses all of the kernel's types and creates every map of the object. A trace pays that once, but `ls` would
//! spend most of its time there. This module takes the one program out of the object, and loads it with plain system calls.

use std::{
    fs::File,
    io::{self, Read},
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::OnceLock,
};

use aya_obj::{
    Map, Object,
    generated::{bpf_attach_type::BPF_TRACE_ITER, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type::BPF_PROG_TYPE_TRACING},
};
use tracer_common::{OpenFile, OpenKind, OpenUnix, Socket};

use super::{btf::KernelBtf, object};

/// Name of the program in the object.
const PROGRAM: &str = "open_files";
/// Kernel function that identifies this kind of iterator (kernel/bpf/task_iter.c).
const FUNCTION: &str = "bpf_iter_task_file";
/// Section of read-only globals.
const READ_ONLY: &str = ".rodata";
/// Functions that the compiler calls to fill and copy memory.
const HELPERS: [&str; 3] = ["memset", "memcpy", "memmove"];
/// Buffer for the verifier's log after a refusal.
const LOG_BYTES: usize = 256 << 10;
/// Buffer for records. The kernel returns up to eight pages at a time (kernel/bpf/bpf_iter.c).
const CHUNK_BYTES: usize = 64 << 10;
/// Reads that may return EAGAIN: the kernel does so after a million files without a record.
const MAX_PAUSES: usize = 1_000;

/// Kind of an open file, with the details of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opened {
    /// A file, or a socket without details.
    File(OpenKind),
    /// A TCP socket.
    Tcp(Socket),
    /// A unix socket.
    Unix(OpenUnix),
}

/// The program, once the kernel has accepted it: its check takes longer than most runs, and a trace measures every few seconds.
static LOADED: OnceLock<OwnedFd> = OnceLock::new();

/// Passes every open file to `each`, one after the other, until `each` returns false.
///
/// # Errors
/// When the kernel has no such iterator, does not permit it, or lacks a field.
pub(crate) fn open_files(each: impl FnMut(&OpenFile, &Opened) -> bool) -> io::Result<()> {
    let program = match LOADED.get() {
        Some(program) => program,
        None => {
            let program = loaded()?;
            LOADED.get_or_init(|| program)
        }
    };
    read(run(program)?, each)
}

/// Loads the program, with this kernel's offsets.
fn loaded() -> io::Result<OwnedFd> {
    let types = KernelBtf::load().map_err(io::Error::other)?;
    let function = types.function(FUNCTION).ok_or(io::ErrorKind::Unsupported)?;
    let offsets = types.offsets();
    offsets.ready().map_err(|lack| io::Error::new(io::ErrorKind::Unsupported, lack.field))?;
    drop(types);
    let bytes = object::bytes().map_err(|(_, error)| error)?;
    let mut object = Object::parse(&bytes).map_err(io::Error::other)?;
    // SAFETY: integers without padding.
    let words = unsafe { std::slice::from_raw_parts((&raw const offsets).cast::<u8>(), size_of_val(&offsets)) };
    object.patch_map_data([("OFFSETS", (words, true))].into()).map_err(io::Error::other)?;
    let (instructions, maps) = linked(&mut object)?;
    let program = load(&instructions, function)?;
    drop(maps);
    Ok(program)
}

/// The program, linked with its maps. The maps must stay open until the program is loaded; it holds them then.
fn linked(object: &mut Object) -> io::Result<(Vec<bpf_insn>, Vec<OwnedFd>)> {
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.programs.retain(|name, _| name == PROGRAM);
    let key = object.programs.get(PROGRAM).ok_or(io::ErrorKind::NotFound)?.function_key();
    object.functions.retain(|at, function| *at == key || HELPERS.contains(&function.name.as_str()));
    let mut maps: Vec<(String, OwnedFd, Map)> = Vec::new();
    for name in [READ_ONLY, "COUNTERS"] {
        let map = object.maps.get(name).ok_or(io::ErrorKind::NotFound)?.clone();
        maps.push((name.to_owned(), create(&map, name == READ_ONLY)?, map));
    }
    let rows = maps.iter().map(|(name, fd, map)| (name.as_str(), fd.as_raw_fd(), map));
    object.relocate_maps(rows, &sections).map_err(io::Error::other)?;
    object.relocate_calls(&sections).map_err(io::Error::other)?;
    let function = object.functions.get(&key).ok_or(io::ErrorKind::NotFound)?;
    Ok((function.instructions.clone(), maps.into_iter().map(|(_, fd, _)| fd).collect()))
}

/// Calls bpf(2).
///
/// # Safety
/// Pointers in `attr` must be valid for `command`.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: as the caller promises.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { RawFd::try_from(result).map_err(io::Error::other) }
}

/// Calls bpf(2) with a command that returns a descriptor.
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attributes without any field set.
fn empty() -> bpf_attr {
    // SAFETY: integers, and pointers as integers: the kernel reads zero as "not given".
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<u8>().addr() as u64
}

fn create(map: &Map, read_only: bool) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: a union of integers.
    let new = unsafe { &mut attr.__bindgen_anon_1 };
    new.map_type = map.map_type();
    new.key_size = map.key_size();
    new.value_size = map.value_size();
    new.max_entries = map.max_entries();
    new.map_flags = map.map_flags();
    // SAFETY: no pointer is in it.
    let fd = unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr) }?;
    if !read_only {
        return Ok(fd);
    }
    let number = u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)?;
    let mut attr = empty();
    let key = 0_u32;
    // SAFETY: a union of integers.
    let entry = unsafe { &mut attr.__bindgen_anon_2 };
    entry.map_fd = number;
    entry.key = address(&raw const key);
    entry.__bindgen_anon_1.value = address(map.data());
    // SAFETY: key and value are as long as the map was made for, and live.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }?;
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = number;
    // The verifier treats values of a frozen map as constants.
    // SAFETY: no pointer is in it.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr) }?;
    Ok(fd)
}

fn load(instructions: &[bpf_insn], function: u32) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let try_load = |log: &mut [u8]| {
        let mut attr = empty();
        // SAFETY: a union of integers.
        let program = unsafe { &mut attr.__bindgen_anon_3 };
        program.prog_type = BPF_PROG_TYPE_TRACING as u32;
        program.expected_attach_type = BPF_TRACE_ITER as u32;
        program.attach_btf_id = function;
        program.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
        program.insns = address(instructions);
        program.license = address(license.as_ptr());
        if !log.is_empty() {
            program.log_level = 1;
            program.log_size = u32::try_from(log.len()).map_err(io::Error::other)?;
            program.log_buf = address(&raw const *log);
        }
        // SAFETY: instructions, license and log live, and are as long as it says.
        unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
    };
    try_load(&mut []).or_else(|error| {
        let mut log = vec![0; LOG_BYTES];
        let again = try_load(&mut log);
        let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
        log::debug!("the kernel refuses the iterator: {error}: {}", String::from_utf8_lossy(text));
        again
    })
}

/// The file through which the program's records are read.
fn run(program: &OwnedFd) -> io::Result<File> {
    let number = |fd: &OwnedFd| u32::try_from(fd.as_raw_fd()).map_err(io::Error::other);
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = number(program)?;
    attr.link_create.attach_type = BPF_TRACE_ITER as u32;
    // SAFETY: no pointer is in it.
    let link = unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }?;
    let mut attr = empty();
    attr.iter_create.link_fd = number(&link)?;
    // SAFETY: no pointer is in it.
    unsafe { bpf_fd(bpf_cmd::BPF_ITER_CREATE, &mut attr) }.map(File::from)
}

fn read(mut from: impl Read, mut each: impl FnMut(&OpenFile, &Opened) -> bool) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut filled, mut pauses) = (0, 0);
    loop {
        match from.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && pauses < MAX_PAUSES => {
                pauses += 1;
                continue;
            }
            Err(error) => return Err(error),
        }
        let mut rest = buffer.get(..filled).unwrap_or_default();
        while let Some((file, opened, length)) = record(rest)? {
            if !each(&file, &opened) {
                return Ok(());
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        let left = rest.len();
        buffer.copy_within(filled - left..filled, 0);
        filled = left;
    }
    if filled == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The first record and its length; `None` if the bytes hold only a part of it.
fn record(bytes: &[u8]) -> io::Result<Option<(OpenFile, Opened, usize)>> {
    let Some((file, rest)) = plain::<OpenFile>(bytes) else { return Ok(None) };
    let opened = match OpenKind::from_number(file.kind).ok_or(io::ErrorKind::InvalidData)? {
        OpenKind::Tcp => plain(rest).map(|(socket, rest)| (Opened::Tcp(socket), rest)),
        OpenKind::Unix => plain(rest).map(|(socket, rest)| (Opened::Unix(socket), rest)),
        kind @ (OpenKind::Other | OpenKind::Pipe | OpenKind::Fifo | OpenKind::Device | OpenKind::Socket) => {
            Some((Opened::File(kind), rest))
        }
    };
    Ok(opened.map(|(opened, rest)| (file, opened, bytes.len() - rest.len())))
}

/// Types that may be read from bytes.
///
/// # Safety
/// `repr(C)` integers without padding: every bit pattern is valid.
unsafe trait Plain: Copy {}
// SAFETY: their sizes are proved where they are declared.
unsafe impl Plain for OpenFile {}
// SAFETY: as above.
unsafe impl Plain for Socket {}
// SAFETY: as above.
unsafe impl Plain for OpenUnix {}

fn plain<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    // SAFETY: the bytes are as long as a T, every bit pattern of a T is valid, and the read may be unaligned.
    Some((unsafe { head.as_ptr().cast::<T>().read_unaligned() }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<T: Plain>(record: &T) -> Vec<u8> {
        let at = std::ptr::from_ref(record).cast::<u8>();
        // SAFETY: integers without padding.
        unsafe { std::slice::from_raw_parts(at, size_of::<T>()) }.to_vec()
    }

    fn file(kind: OpenKind) -> OpenFile {
        OpenFile { start_ns: 1, inode: 2, tgid: 3, fd: 4, kind: kind as u32, device: 0, netns: 0, reserved: 0 }
    }

    /// Returns at most seven bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(7).min(into.len());
            self.0.read(&mut into[..count])
        }
    }

    #[test]
    fn records_are_read_across_any_cut() {
        let socket = Socket { cookie: 77, ..Socket::NONE };
        let mut all = [bytes(&file(OpenKind::Pipe)), bytes(&file(OpenKind::Tcp)), bytes(&socket)].concat();
        all.extend(bytes(&file(OpenKind::Other)));
        let mut seen = Vec::new();
        read(Slow(&all), |file, opened| {
            seen.push((file.kind, matches!(opened, Opened::Tcp(socket) if socket.cookie == 77)));
            true
        })
        .unwrap();
        assert_eq!(seen, [(1, false), (5, true), (0, false)]);
        for cut in 1..all.len() {
            let whole = read(&all[..cut], |_, _| true);
            let ends = [size_of::<OpenFile>(), 2 * size_of::<OpenFile>() + size_of::<Socket>()];
            assert_eq!(whole.is_ok(), ends.contains(&cut), "{cut}");
        }
        let mut count = 0;
        read(&all[..], |_, _| {
            count += 1;
            false
        })
        .unwrap();
        assert_eq!(count, 1, "the reader stops on request");
    }

    #[test]
    fn unknown_kind_is_an_error() {
        let odd = OpenFile { kind: 99, ..file(OpenKind::Other) };
        assert!(read(&bytes(&odd)[..], |_, _| true).is_err());
    }

    #[test]
    fn iterator_lists_own_files() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = u32::try_from(listener.as_raw_fd()).unwrap();
        let mut found = None;
        let read = open_files(|file, opened| {
            if (file.tgid, file.fd) == (std::process::id(), fd) {
                found = Some((file.inode, matches!(opened, Opened::Tcp(_))));
            }
            true
        });
        match read {
            Ok(()) => assert_eq!(found, Some((rustix::fs::fstat(&listener).unwrap().st_ino, true))),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
