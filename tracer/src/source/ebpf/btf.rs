//! Types of the running kernel (BTF): offsets of fields, and tracepoints.
//!
//! rustc writes no CO-RE relocations, so the loader finds offsets here and passes them to the object as a global. Start at
//! [`KernelBtf::load`]. Bit fields are refused: the object reads whole bytes.
//!
//! The kernel has some 150,000 types and the object needs some twenty. This reader searches for these and does not parse the rest. The
//! format is described in Documentation/bpf/btf.rst.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Read},
    ops::Range,
    path::Path,
};

use tracer_common::Offsets;

use crate::host_paths;

/// Largest file that is read. Kernels of distributions have 4 to 12 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Nesting of anonymous structs, and of typedefs. The kernel has four or five levels.
const MAX_DEPTH: u32 = 16;
/// Prefix of the typedef of each tracepoint to which BPF can attach (include/trace/bpf_probe.h).
const TRACEPOINT_PREFIX: &[u8] = b"btf_trace_";
/// Enumeration of all helpers (include/uapi/linux/bpf.h). It shows a helper that a distribution added to an older kernel too.
const HELPER_IDS: &str = "bpf_func_id";
/// Helpers that every probe calls, all of them since Linux 5.8.
const HELPERS: [&str; 3] = ["BPF_FUNC_ringbuf_reserve", "BPF_FUNC_ktime_get_boot_ns", "BPF_FUNC_probe_read_kernel"];
/// The helper for the saved registers (Linux 5.15).
const TASK_REGISTERS: &str = "BPF_FUNC_task_pt_regs";
/// Function behind the helper for cookies, as tracing programs call it (Linux 5.12). Other programs had it before.
const SOCKET_COOKIE: &str = "bpf_get_socket_ptr_cookie";

/// Why the kernel's types cannot be used.
#[derive(Debug)]
pub enum BtfError {
    /// The kernel shows no types (CONFIG_DEBUG_INFO_BTF is off).
    Absent,
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The file is larger than any kernel's.
    TooLarge,
    /// The file is no BTF.
    Malformed(String),
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "the kernel has no {}", host_paths::get().btf_file().display()),
            Self::Unreadable(_) => f.write_str("cannot read the kernel's BTF types"),
            Self::TooLarge => write!(f, "the kernel's types take more than {MAX_BYTES} bytes"),
            Self::Malformed(why) => write!(f, "the kernel's types are not well-formed BTF: {why}"),
        }
    }
}

impl std::error::Error for BtfError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Absent | Self::TooLarge | Self::Malformed(_) => None,
        }
    }
}

/// Properties of a kernel that the loader passes to the object.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Offsets of kernel fields.
    pub offsets: Offsets,
    /// The helper `bpf_task_pt_regs` exists.
    pub has_task_registers: bool,
    /// The helper `bpf_get_socket_cookie` takes sockets in tracing programs.
    pub makes_cookies: bool,
    /// Size of `struct pt_regs` in bytes, if known.
    pub registers_bytes: Option<u32>,
}

/// Kinds of types (include/uapi/linux/btf.h).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
    /// The last known kind. Types of later kinds have an unknown length.
    pub(super) const LAST: u32 = ENUM64;
}

/// Size of `struct btf_header`: 32-bit words behind magic, version and flags.
const HEADER_BYTES: usize = 24;
const MAGIC: u16 = 0xeb9f;
/// Size of `struct btf_type`.
const TYPE_BYTES: usize = 12;
/// Size of `struct btf_member`.
const MEMBER_BYTES: usize = 12;
/// Size of `struct btf_enum`.
const VALUE_BYTES: usize = 8;

/// A type, as the file encodes it.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Number of members, parameters or values.
    count: usize,
    /// Set if members may be bit fields.
    has_bit_fields: bool,
    /// Number of another type, or a size.
    last: u32,
    /// Position of its members, parameters or values.
    behind: usize,
}

impl Type {
    /// Bytes of its members, parameters or values; `None` for an unknown kind.
    fn length(&self) -> Option<usize> {
        let each = match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => return Some(4),
            kind::ARRAY => return Some(12),
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12,
            kind::ENUM | kind::FUNC_PROTO => 8,
            other if other > kind::LAST => return None,
            _ => 0,
        };
        self.count.checked_mul(each)
    }
}

/// The kernel's types: the file, and the position of each type. Types are decoded on demand.
pub struct KernelBtf {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Position of each type. Types are numbered from 1.
    types: Vec<usize>,
    /// Hash of the name, and number, of each struct, in order. Functions and typedefs share names with structs (`struct socket`,
    /// `socket()`), so they are left out.
    structs: Vec<(u64, u32)>,
}

impl KernelBtf {
    /// Types of the running kernel, from the file that [`host_paths`] names.
    ///
    /// # Errors
    /// When the kernel shows no types, or the file is malformed.
    pub fn load() -> Result<Self, BtfError> {
        Self::load_from(&host_paths::get().btf_file())
    }

    /// Types in a file.
    ///
    /// # Errors
    /// When the file cannot be read, or is malformed.
    pub fn load_from(path: &Path) -> Result<Self, BtfError> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BtfError::Absent),
            Err(error) => return Err(BtfError::Unreadable(error)),
        };
        let size = file.metadata().map_err(BtfError::Unreadable)?.len().min(MAX_BYTES);
        // Reserve room for the whole file: growing a buffer copies it.
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(BtfError::Unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|have| have > MAX_BYTES) {
            return Err(BtfError::TooLarge);
        }
        Self::parse(bytes)
    }

    /// Types in the bytes of a file.
    ///
    /// # Errors
    /// When the bytes are no BTF.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let malformed = |why: &str| BtfError::Malformed(why.to_owned());
        if bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic)) != Some(MAGIC) {
            return Err(malformed("it does not begin as BTF does"));
        }
        let field = |at| Some(usize::try_from(word(&bytes, at)?).unwrap_or(usize::MAX));
        let section = |begin: Option<usize>, length: Option<usize>| {
            let begin = field(4)?.checked_add(begin?)?;
            let section = begin..begin.checked_add(length?)?;
            (begin >= HEADER_BYTES && section.end <= bytes.len()).then_some(section)
        };
        let types = section(field(8), field(12)).ok_or_else(|| malformed("its types are not in it"))?;
        let strings = section(field(16), field(20)).ok_or_else(|| malformed("its names are not in it"))?;
        let mut btf = Self { bytes, strings, types: Vec::new(), structs: Vec::new() };
        let mut at = types.start;
        while at < types.end {
            let found =
                btf.read(at).filter(|found| found.behind <= types.end).ok_or_else(|| malformed("a type is cut"))?;
            btf.types.push(at);
            if let (kind::STRUCT, Ok(id)) = (found.kind, u32::try_from(btf.types.len())) {
                btf.structs.push((hash(btf.text(found.name)), id));
            }
            let length = found.length().ok_or_else(|| malformed("a type is of no known kind"))?;
            at = found.behind.checked_add(length).ok_or_else(|| malformed("a type is too long"))?;
        }
        btf.structs.sort_unstable();
        Ok(btf)
    }

    fn read(&self, at: usize) -> Option<Type> {
        let info = word(&self.bytes, at + 4)?;
        Some(Type {
            name: word(&self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            count: usize::try_from(info & 0xffff).ok()?,
            has_bit_fields: info >> 31 != 0,
            last: word(&self.bytes, at + 8)?,
            behind: at + TYPE_BYTES,
        })
    }

    fn get(&self, id: u32) -> Option<Type> {
        self.read(*self.types.get(usize::try_from(id.checked_sub(1)?).ok()?)?)
    }

    /// The name at this offset; empty for an anonymous type.
    fn text(&self, at: u32) -> &[u8] {
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let text = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
        text.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Every type, with its number.
    fn all(&self) -> impl Iterator<Item = (u32, Type)> {
        (1..).zip(&self.types).filter_map(|(id, at)| Some((id, self.read(*at)?)))
    }

    /// Offsets of all fields that the object reads.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        Offsets::resolve(|of, path| self.offset_of(of, path))
    }

    /// Properties of this kernel that the object needs.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let [has_task_registers] = self.helpers([TASK_REGISTERS]);
        Layout {
            offsets: self.offsets(),
            has_task_registers,
            makes_cookies: self.function(SOCKET_COOKIE).is_some(),
            registers_bytes: self.size_of("pt_regs"),
        }
    }

    /// Helpers that every probe calls and that this kernel lacks.
    #[must_use]
    pub fn missing_helpers(&self) -> Vec<String> {
        let has = self.helpers(HELPERS);
        HELPERS.iter().zip(has).filter(|(_, has)| !has).map(|(name, _)| name.replace("BPF_FUNC_", "bpf_")).collect()
    }

    /// For each name, whether the kernel has a helper of that name.
    fn helpers<const N: usize>(&self, names: [&str; N]) -> [bool; N] {
        let is_it = |found: &Type| found.kind == kind::ENUM && self.text(found.name) == HELPER_IDS.as_bytes();
        let ids = self.all().map(|(_, found)| found).find(is_it);
        names.map(|name| ids.is_some_and(|ids| self.values(ids).any(|value| self.text(value) == name.as_bytes())))
    }

    /// Names of an enumeration's values.
    fn values(&self, of: Type) -> impl Iterator<Item = u32> {
        (0..of.count).map_while(move |index| word(&self.bytes, of.behind + index * VALUE_BYTES))
    }

    /// Size of a struct in bytes; `None` if there is none, or if several of this name disagree.
    fn size_of(&self, of: &str) -> Option<u32> {
        let mut sizes = self.named(of).filter_map(|id| self.get(id)).map(|found| found.last);
        let first = sizes.next()?;
        sizes.all(|other| other == first).then_some(first)
    }

    /// Fields that this kernel lacks and that the object needs, as `struct.member`.
    #[must_use]
    pub fn missing_fields(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        let resolve = |known: &[String]| {
            Offsets::resolve(|of, path| {
                // A field that is already listed gets any value, so that the next missing one shows.
                if known.contains(&format!("{of}.{path}")) { Some(0) } else { self.offset_of(of, path) }
            })
        };
        while let Err(lack) = resolve(&missing).ready() {
            if missing.iter().any(|known| known == lack.field) {
                break;
            }
            missing.push(lack.field.to_owned());
        }
        missing
    }

    /// Tracepoints to which BPF can attach with typed arguments.
    #[must_use]
    pub fn tracepoints(&self) -> BTreeSet<String> {
        let typedefs = self.all().filter(|(_, found)| found.kind == kind::TYPEDEF);
        let names = typedefs.filter_map(|(_, found)| self.text(found.name).strip_prefix(TRACEPOINT_PREFIX));
        names.filter_map(|name| Some(std::str::from_utf8(name).ok()?.to_owned())).collect()
    }

    /// Number of the function with this name. An iterator is attached to a function.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<u32> {
        let is_it = |found: &Type| found.kind == kind::FUNC && self.text(found.name) == name.as_bytes();
        self.all().find(|(_, found)| is_it(found)).map(|(id, _)| id)
    }

    /// Offset of `path` (`member.member…`) in `struct of`, in bytes. `None` if there is no such member, if it is a bit field, or if
    /// several structs of this name disagree.
    #[must_use]
    pub fn offset_of(&self, of: &str, path: &str) -> Option<u32> {
        let mut found = self.named(of).filter_map(|id| self.walk(id, path));
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }

    /// Numbers of the structs with this name.
    fn named(&self, name: &str) -> impl Iterator<Item = u32> {
        let wanted = hash(name.as_bytes());
        let begin = self.structs.partition_point(|(hash, _)| *hash < wanted);
        let from = self.structs.get(begin..).unwrap_or_default();
        let same = from.iter().take_while(move |(hash, _)| *hash == wanted).map(|(_, id)| *id);
        same.filter(move |id| self.get(*id).is_some_and(|found| self.text(found.name) == name.as_bytes()))
    }

    fn walk(&self, id: u32, path: &str) -> Option<u32> {
        let (mut id, mut at) = (id, 0_u32);
        for name in path.split('.') {
            let (next, offset) = self.member(id, name.as_bytes(), 0)?;
            (id, at) = (next, at.checked_add(offset)?);
        }
        Some(at)
    }

    /// Type and offset of a member, which may be inside anonymous structs and unions.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH || name.is_empty() {
            return None;
        }
        let of = self.composite(id)?;
        if let Some((_, id, at)) = self.members(of).find(|(found, ..)| self.text(*found) == name) {
            return Some((id, bytes(of, at)?));
        }
        self.members(of).filter(|(found, ..)| self.text(*found).is_empty()).find_map(|(_, anonymous, at)| {
            let (id, inner) = self.member(anonymous, name, depth + 1)?;
            Some((id, bytes(of, at)?.checked_add(inner)?))
        })
    }

    /// Name, type and encoded offset of each member.
    fn members(&self, of: Type) -> impl Iterator<Item = (u32, u32, u32)> {
        (0..of.count).map_while(move |index| {
            let at = of.behind + index * MEMBER_BYTES;
            Some((word(&self.bytes, at)?, word(&self.bytes, at + 4)?, word(&self.bytes, at + 8)?))
        })
    }

    /// The struct or union behind a type, through typedefs and qualifiers.
    fn composite(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let found = self.get(id)?;
            match found.kind {
                kind::STRUCT | kind::UNION => return Some(found),
                kind::TYPEDEF | kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => id = found.last,
                _ => return None,
            }
        }
        None
    }
}

/// A word of the file, in the kernel's byte order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

/// Offset of a member in bytes; `None` for a bit field.
fn bytes(of: Type, offset: u32) -> Option<u32> {
    let (size, bits) = if of.has_bit_fields { (offset >> 24, offset & 0xff_ffff) } else { (0, offset) };
    (size == 0 && bits.is_multiple_of(8)).then_some(bits / 8)
}

/// Hash of a name (FNV-1a). Equal hashes are followed by a comparison of names.
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Offsets in the bytes of a BTF file.
///
/// # Errors
/// When the bytes are no BTF.
pub fn offsets(btf_bytes: &[u8]) -> Result<Offsets, BtfError> {
    Ok(KernelBtf::parse(btf_bytes.to_vec())?.offsets())
}

/// Tracepoints in the bytes of a BTF file.
///
/// # Errors
/// When the bytes are no BTF.
pub fn tracepoints(btf_bytes: &[u8]) -> Result<BTreeSet<String>, BtfError> {
    Ok(KernelBtf::parse(btf_bytes.to_vec())?.tracepoints())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the parts of BTF that the tests need (Documentation/bpf/btf.rst).
    #[derive(Default)]
    struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    use super::kind::{INT, STRUCT, TYPEDEF, UNION};

    /// Number of the function in the sample.
    const FUNCTION: u32 = 12;
    const HAS_BIT_FIELDS: u32 = 1 << 31;

    impl Writer {
        fn string(&mut self, text: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if text.is_empty() {
                return 0;
            }
            let at = u32::try_from(self.strings.len()).unwrap();
            self.strings.extend_from_slice(text.as_bytes());
            self.strings.push(0);
            at
        }

        fn words(&mut self, words: &[u32]) {
            self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }

        fn add(&mut self, name: &str, kind: u32, count: u32, last: u32) -> u32 {
            let name = self.string(name);
            self.words(&[name, (kind << 24) | count, last]);
            self.count += 1;
            self.count
        }

        fn int(&mut self) -> u32 {
            let id = self.add("int", INT, 0, 4);
            self.words(&[32]);
            id
        }

        /// Members: name, type, and encoded offset.
        fn composite(&mut self, name: &str, kind: u32, members: &[(&str, u32, u32)]) -> u32 {
            let members: Vec<_> = members.iter().map(|(name, id, at)| (self.string(name), *id, *at)).collect();
            let id = self.add(name, kind, u32::try_from(members.len()).unwrap(), 64);
            for (name, of, at) in members {
                self.words(&[name, of, at]);
            }
            id
        }

        fn enumeration(&mut self, name: &str, values: &[&str]) {
            let values: Vec<_> = (0..).zip(values).map(|(value, name)| [self.string(name), value]).collect();
            self.add(name, kind::ENUM, u32::try_from(values.len()).unwrap(), 4);
            for value in values {
                self.words(&value);
            }
        }

        fn finish(mut self) -> Vec<u8> {
            let _empty = self.string("");
            let types = u32::try_from(self.types.len()).unwrap();
            let strings = u32::try_from(self.strings.len()).unwrap();
            let mut all = vec![0x9f, 0xeb, 1, 0];
            all.extend([24, 0, types, types, strings].into_iter().flat_map(u32::to_le_bytes));
            all.extend(self.types);
            all.extend(self.strings);
            all
        }
    }

    fn sample() -> Vec<u8> {
        let mut out = Writer::default();
        let int = out.int();
        let inner = out.composite("", UNION, &[("first", int, 0), ("second", int, 0)]);
        let deeper = out.composite("", STRUCT, &[("pad", int, 0), ("", inner, 32)]);
        let common = out.composite("common", STRUCT, &[("", deeper, 64)]);
        let alias = out.add("common_t", TYPEDEF, 0, common);
        out.composite("sock", STRUCT, &[("head", int, 0), ("__sk_common", alias, 128)]);
        out.composite("bits", STRUCT | (HAS_BIT_FIELDS >> 24), &[("flag", int, (3 << 24) | 8), ("word", int, 32)]);
        out.composite("twice", STRUCT, &[("same", int, 32), ("other", int, 64)]);
        out.composite("twice", STRUCT, &[("same", int, 32), ("other", int, 96)]);
        out.add("btf_trace_sched_process_exit", TYPEDEF, 0, int);
        let prototype = out.add("", kind::FUNC_PROTO, 0, int);
        let function = out.add("bpf_iter_task_file", kind::FUNC, 0, prototype);
        assert_eq!(function, FUNCTION);
        out.enumeration(HELPER_IDS, &["BPF_FUNC_unspec", "BPF_FUNC_task_pt_regs"]);
        let own = out.count + 1;
        out.add("endless", TYPEDEF, 0, own);
        out.composite("loops", STRUCT, &[("", own, 0)]);
        out.finish()
    }

    #[test]
    fn members_are_found_inside_anonymous_unions() {
        let btf = KernelBtf::parse(sample()).unwrap();
        assert_eq!(btf.offset_of("sock", "__sk_common"), Some(16));
        assert_eq!(btf.offset_of("sock", "__sk_common.second"), Some(16 + 8 + 4));
        assert_eq!(btf.offset_of("sock", "absent"), None);
        assert_eq!(btf.offset_of("absent", "head"), None);
        assert_eq!(btf.offset_of("sock", ""), None);
        let missing = btf.missing_fields();
        assert!(missing.iter().any(|field| field == "task_struct.start_boottime"), "by its newer name");
        assert!(!missing.iter().any(|field| field == "task_struct.loginuid"), "optional");
        assert_eq!(btf.tracepoints().iter().collect::<Vec<_>>(), ["sched_process_exit"]);
        assert_eq!((btf.function("bpf_iter_task_file"), btf.function("sock")), (Some(FUNCTION), None));
        assert_eq!(btf.helpers(["BPF_FUNC_unspec", "BPF_FUNC_task_pt_regs", "sock"]), [true, true, false]);
        assert_eq!((btf.size_of("sock"), btf.size_of("pt_regs")), (Some(64), None));
        let layout = btf.layout();
        assert!(layout.has_task_registers && !layout.makes_cookies && layout.registers_bytes.is_none());
        let missing = ["bpf_ringbuf_reserve", "bpf_ktime_get_boot_ns", "bpf_probe_read_kernel"];
        assert_eq!(btf.missing_helpers(), missing);
    }

    #[test]
    fn bit_fields_and_contradictions_have_no_offset() {
        let btf = KernelBtf::parse(sample()).unwrap();
        assert_eq!(btf.offset_of("bits", "flag"), None);
        assert_eq!(btf.offset_of("bits", "word"), Some(4));
        assert_eq!(btf.offset_of("twice", "same"), Some(4));
        assert_eq!(btf.offset_of("twice", "other"), None);
        assert_eq!(btf.offset_of("loops", "x"), None);
    }

    #[test]
    fn cut_or_foreign_bytes_never_panic() {
        let whole = sample();
        for end in 0..whole.len() {
            let _outcome = KernelBtf::parse(whole[..end].to_vec()).map(|btf| btf.offsets());
        }
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 0xff;
            let _outcome = KernelBtf::parse(bent).map(|btf| (btf.offsets(), btf.offset_of("sock", "head")));
        }
        assert!(matches!(KernelBtf::parse(Vec::new()), Err(BtfError::Malformed(_))));
        assert!(matches!(KernelBtf::load_from(Path::new("/nonexistent")), Err(BtfError::Absent)));
    }

    #[test]
    fn running_kernel_has_every_needed_field() {
        match KernelBtf::load() {
            Ok(btf) => {
                assert_eq!(btf.offsets().ready(), Ok(()));
                assert!(btf.tracepoints().contains("sched_process_exec"));
                assert_eq!(btf.missing_helpers(), Vec::<String>::new());
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
