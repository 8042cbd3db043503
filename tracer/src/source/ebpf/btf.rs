//! What the running kernel's BTF says: where fields lie, which tracepoints there are.
//!
//! rustc writes no CO-RE relocations, so offsets are found here and handed to the object as a global. Start at
//! [`KernelBtf::load`]. Bit fields are refused: the object reads whole bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Read},
    path::Path,
};

use btfparse::{Error as ParseError, ErrorKind, MemberList, Offset, Readable, TypeInformation, TypeVariant};
use tracer_common::Offsets;

/// Where the kernel shows its own types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Distributions' kernels have 4 to 12 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Anonymous structs within structs, typedefs of typedefs: the kernel has four or five.
const MAX_DEPTH: u32 = 16;
/// The compiler's typedef for each tracepoint that BPF can attach to (include/trace/bpf_probe.h).
const TRACEPOINT_PREFIX: &str = "btf_trace_";

/// Why there are no offsets.
#[derive(Debug)]
pub enum BtfError {
    /// The kernel shows no types (CONFIG_DEBUG_INFO_BTF is off).
    Absent,
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is larger than any kernel's.
    TooLarge,
    /// It is no BTF.
    Malformed(String),
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "the kernel has no {VMLINUX}"),
            Self::Unreadable(_) => f.write_str("the kernel's types cannot be read"),
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

/// btfparse reads a few bytes at a time: from memory that is cheap, from sysfs each is a system call.
struct Buffer<'a>(&'a [u8]);

impl Readable for Buffer<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|from| self.0.get(from..from.checked_add(buffer.len())?))
            .ok_or_else(|| ParseError::new(ErrorKind::InvalidOffset, "beyond the end"))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// The kernel's types, parsed once.
pub struct KernelBtf {
    types: TypeInformation,
    /// By name, structs only: functions and typedefs share names with them (`struct socket`, `socket()`).
    structs: BTreeMap<String, Vec<u32>>,
    tracepoints: BTreeSet<String>,
}

impl KernelBtf {
    /// Of the running kernel.
    ///
    /// # Errors
    /// Where the kernel shows no types, or what it shows makes no sense.
    pub fn load() -> Result<Self, BtfError> {
        Self::load_from(Path::new(VMLINUX))
    }

    /// Out of a file.
    ///
    /// # Errors
    /// Where it cannot be read or makes no sense.
    pub fn load_from(path: &Path) -> Result<Self, BtfError> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BtfError::Absent),
            Err(error) => return Err(BtfError::Unreadable(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(BtfError::Unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|have| have > MAX_BYTES) {
            return Err(BtfError::TooLarge);
        }
        Self::parse(&bytes)
    }

    /// Out of bytes.
    ///
    /// # Errors
    /// Where they are no BTF.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let types =
            TypeInformation::new(&Buffer(bytes)).map_err(|error| BtfError::Malformed(format!("{:?}", error.kind())))?;
        let mut structs: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut tracepoints = BTreeSet::new();
        for (id, kind) in types.get() {
            if let TypeVariant::Struct(found) = kind
                && let Some(name) = found.name()
            {
                structs.entry(name.clone()).or_default().push(*id);
            } else if let TypeVariant::Typedef(found) = kind
                && let Some(name) = found.name().as_deref().and_then(|name| name.strip_prefix(TRACEPOINT_PREFIX))
            {
                tracepoints.insert(name.to_owned());
            }
        }
        Ok(Self { types, structs, tracepoints })
    }

    /// Where the object's fields lie.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        Offsets::resolve(|of, path| self.offset_of(of, path))
    }

    /// Fields, as `struct.member`, that this kernel lacks and without which no session can be seen.
    #[must_use]
    pub fn missing_fields(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        let resolve = |known: &[String]| {
            Offsets::resolve(|of, path| {
                // One that has been told of is given any value, so that the next one shows.
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

    /// Tracepoints that BPF can attach to with typed arguments.
    #[must_use]
    pub fn tracepoints(&self) -> &BTreeSet<String> {
        &self.tracepoints
    }

    /// Where `path` (`member.member…`) lies in `struct of`, in bytes. `None` where there is no such member, where it is a bit
    /// field, or where several structs of that name disagree.
    #[must_use]
    pub fn offset_of(&self, of: &str, path: &str) -> Option<u32> {
        let mut found = self.structs.get(of)?.iter().filter_map(|id| self.walk(*id, path));
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }

    fn walk(&self, id: u32, path: &str) -> Option<u32> {
        let (mut id, mut at) = (id, 0_u32);
        for name in path.split('.') {
            let (next, offset) = self.member(id, name, 0)?;
            (id, at) = (next, at.checked_add(offset)?);
        }
        Some(at)
    }

    /// Type and offset of a member, anonymous structs and unions looked through.
    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        let members = self.members(id)?;
        let bytes = |offset: Offset| match offset {
            Offset::ByteOffset(at) => Some(at),
            Offset::BitOffsetAndSize(..) => None,
        };
        if let Some(found) = members.iter().find(|member| member.name().as_deref() == Some(name)) {
            return Some((found.tid(), bytes(found.offset())?));
        }
        members.iter().filter(|member| member.name().is_none()).find_map(|anonymous| {
            let (id, inner) = self.member(anonymous.tid(), name, depth + 1)?;
            Some((id, bytes(anonymous.offset())?.checked_add(inner)?))
        })
    }

    fn members(&self, mut id: u32) -> Option<&MemberList> {
        for _ in 0..MAX_DEPTH {
            let kind = self.types.get().get(&id)?;
            if let TypeVariant::Struct(found) = kind {
                return Some(found.member_list());
            } else if let TypeVariant::Union(found) = kind {
                return Some(found.member_list());
            } else if let TypeVariant::Typedef(alias) = kind {
                id = *alias.tid();
            } else if let TypeVariant::Const(alias) = kind {
                id = *alias.tid();
            } else if let TypeVariant::Volatile(alias) = kind {
                id = *alias.tid();
            } else if let TypeVariant::TypeTag(alias) = kind {
                id = *alias.tid();
            } else {
                return None;
            }
        }
        None
    }
}

/// Offsets out of the bytes of a BTF file.
///
/// # Errors
/// Where the bytes are no BTF.
pub fn offsets(btf_bytes: &[u8]) -> Result<Offsets, BtfError> {
    Ok(KernelBtf::parse(btf_bytes)?.offsets())
}

/// Tracepoints out of the bytes of a BTF file.
///
/// # Errors
/// Where the bytes are no BTF.
pub fn tracepoints(btf_bytes: &[u8]) -> Result<BTreeSet<String>, BtfError> {
    Ok(KernelBtf::parse(btf_bytes)?.tracepoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes BTF (Documentation/bpf/btf.rst): as much of it as the tests need.
    #[derive(Default)]
    struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    const INT: u32 = 1;
    const STRUCT: u32 = 4;
    const UNION: u32 = 5;
    const TYPEDEF: u32 = 8;
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

        /// Members: name, type, what stands in the offset field.
        fn composite(&mut self, name: &str, kind: u32, members: &[(&str, u32, u32)]) -> u32 {
            let members: Vec<_> = members.iter().map(|(name, id, at)| (self.string(name), *id, *at)).collect();
            let id = self.add(name, kind, u32::try_from(members.len()).unwrap(), 64);
            for (name, of, at) in members {
                self.words(&[name, of, at]);
            }
            id
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
        let own = out.count + 1;
        out.add("endless", TYPEDEF, 0, own);
        out.composite("loops", STRUCT, &[("", own, 0)]);
        out.finish()
    }

    #[test]
    fn members_are_found_through_typedefs_and_anonymous_unions() {
        let btf = KernelBtf::parse(&sample()).unwrap();
        assert_eq!(btf.offset_of("sock", "__sk_common"), Some(16));
        assert_eq!(btf.offset_of("sock", "__sk_common.second"), Some(16 + 8 + 4));
        assert_eq!(btf.offset_of("sock", "absent"), None);
        assert_eq!(btf.offset_of("absent", "head"), None);
        assert_eq!(btf.offset_of("sock", ""), None);
        let missing = btf.missing_fields();
        assert!(missing.iter().any(|field| field == "task_struct.start_boottime"), "by its newer name");
        assert!(!missing.iter().any(|field| field == "task_struct.loginuid"), "optional");
        assert_eq!(btf.tracepoints().iter().collect::<Vec<_>>(), ["sched_process_exit"]);
    }

    #[test]
    fn bit_fields_contradictions_and_endless_types_have_no_offset() {
        let btf = KernelBtf::parse(&sample()).unwrap();
        assert_eq!(btf.offset_of("bits", "flag"), None);
        assert_eq!(btf.offset_of("bits", "word"), Some(4));
        assert_eq!(btf.offset_of("twice", "same"), Some(4));
        assert_eq!(btf.offset_of("twice", "other"), None);
        assert_eq!(btf.offset_of("loops", "x"), None);
    }

    #[test]
    fn cut_or_foreign_bytes_are_an_error_or_less_but_never_a_panic() {
        let whole = sample();
        for end in 0..whole.len() {
            let _outcome = KernelBtf::parse(&whole[..end]).map(|btf| btf.offsets());
        }
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 0xff;
            let _outcome = KernelBtf::parse(&bent).map(|btf| (btf.offsets(), btf.offset_of("sock", "head")));
        }
        assert!(matches!(KernelBtf::parse(b""), Err(BtfError::Malformed(_))));
        assert!(matches!(KernelBtf::load_from(Path::new("/nonexistent")), Err(BtfError::Absent)));
    }

    #[test]
    fn this_kernel_has_every_field_that_sessions_need() {
        match KernelBtf::load() {
            Ok(btf) => {
                assert_eq!(btf.offsets().ready(), Ok(()));
                assert!(btf.tracepoints().contains("sched_process_exec"));
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
