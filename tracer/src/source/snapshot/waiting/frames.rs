//! Finds the live words of a parked goroutine's stack, by the tables that Go's garbage collector uses for the same purpose.
//!
//! A stack also holds dead words of earlier calls and earlier goroutines. Go reuses stacks without clearing them (runtime/proc.go:
//! `gfget`), and a frame has slots that are not yet, or no longer, in use. The collector must know the live ones exactly: a stale
//! pointer taken for a live one would crash the program. Each frame is found by its exact size, from the parked program counter
//! outwards, and each word by the frame's pointer maps (runtime/traceback.go: `gentraceback`, `unwinder`; runtime/stack.go and
//! runtime/stkframe.go: `getStackMap`).
//!
//! Every Go program, stripped or not, has these tables: `runtime.moduledata` leads to them (runtime/symtab.go). A stack that cannot be
//! followed to its outermost frame has no live words.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use super::{layout::Layout, memory::Words, poller::Waiter};

/// Frames of one stack that are followed. Copying goroutines have about ten.
const MAX_FRAMES: usize = 64;
/// Call sites in the cache. A daemon's parked goroutines share a few dozen.
const MAX_SITES: usize = 4 << 10;
/// Entries of one function's table that are read. A function of a megabyte has fewer.
const MAX_STEPS: usize = 64 << 10;
/// Bytes of the program's data that are searched for `runtime.moduledata`. The kubelet has about 2 MiB of data.
const MAX_SEARCH: u64 = 64 << 20;
/// Words of one read during that search.
const CHUNK: usize = 8 << 10;
/// Words of `runtime.moduledata` that are read: up to `gofunc` in every version.
const MODULE_WORDS: usize = 44;
/// Bits of one pointer map. No frame of a stack within `MAX_STACK` has more.
const MAX_BITS: u32 = 8 << 10;
/// `runtime.pcHeader.magic` of Go 1.18 and 1.19, and of Go 1.20 and later.
const MAGIC: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Flag of a function that is the outermost frame (`funcFlag_TOPFRAME`).
const TOP_FRAME: u8 = 1;
/// Flag of a function whose frame has no known size (`funcFlag_SPWRITE`).
const SP_WRITE: u8 = 2;
/// `PCDATA_StackMapIndex` (runtime/funcdata.h).
const STACK_MAP_INDEX: u32 = 1;
/// `FUNCDATA_ArgsPointerMaps`.
const ARGUMENTS: u32 = 0;
/// `FUNCDATA_LocalsPointerMaps`.
const LOCALS: u32 = 1;
/// Smallest instruction in bytes (`sys.PCQuantum`).
pub(super) const QUANTUM: u64 = if cfg!(target_arch = "aarch64") { 4 } else { 1 };
/// Bytes of a frame below its arguments (`sys.MinFrameSize`).
pub(super) const MIN_FRAME: u64 = if cfg!(target_arch = "aarch64") { 8 } else { 0 };
/// Bytes of the return address that a call pushes.
pub(super) const PUSHED: u64 = if cfg!(target_arch = "aarch64") { 0 } else { 8 };

/// Functions that copy with arguments in a special order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// `internal/poll.Splice(dst, src *FD, …)`. The compiler may keep both arguments among local variables.
    Splice,
    /// `bufio.(*Reader).WriteTo(w io.Writer)`. The first argument is the receiver.
    WriteTo,
    Other,
}

/// One word of a frame's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) word: u64,
    /// Set for a pointer that the function will use again. Types of interfaces are never marked: the collector does not need them.
    pub(super) live: bool,
}

/// A call that has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) function: Function,
    pub(super) arguments: Vec<Argument>,
    /// Live pointers among the local variables.
    pub(super) locals: Vec<u64>,
}

impl Frame {
    /// The argument at this index, if it is a live pointer.
    pub(super) fn live(&self, index: usize) -> Option<u64> {
        self.arguments.get(index).filter(|argument| argument.live && argument.word != 0).map(|argument| argument.word)
    }

    /// All live pointers of the frame.
    pub(super) fn pointers(&self) -> impl Iterator<Item = u64> + '_ {
        let live = self.arguments.iter().filter(|argument| argument.live).map(|argument| argument.word);
        live.chain(self.locals.iter().copied())
    }
}

/// A call site: the layout shared by all frames that wait at one program counter.
#[derive(Debug)]
struct Site {
    function: Function,
    /// Set for the outermost frame.
    is_top: bool,
    /// Bytes from the stack pointer to the return address (amd64) or to the arguments (arm64).
    size: u64,
    /// Pointer map of the arguments: set for a live pointer.
    arguments: Vec<bool>,
    /// Pointer map of the local variables.
    locals: Vec<bool>,
}

/// Tables of a program, as `runtime.moduledata` lists them.
#[derive(Clone, Copy, Debug)]
struct Module {
    names: Range,
    tables: Range,
    functions: Range,
    index: Range,
    text: (u64, u64),
    function_data: u64,
}

/// A slice of bytes.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    bytes: u64,
}

impl Range {
    /// Address of `bytes` bytes at this offset; `None` beyond the end.
    fn at(&self, offset: u64, bytes: u64) -> Option<u64> {
        (offset.checked_add(bytes)? <= self.bytes).then_some(self.start + offset)
    }
}

/// Reads frames of one program's goroutines.
pub(super) struct Frames<'a> {
    words: &'a Words<'a>,
    layout: Layout,
    module: OnceCell<Option<Module>>,
    /// Cache of call sites, by program counter.
    sites: RefCell<BTreeMap<u64, Option<Rc<Site>>>>,
}

impl<'a> Frames<'a> {
    /// Reads frames of the program behind `words`.
    pub(super) fn new(words: &'a Words<'a>, layout: Layout) -> Self {
        Self { words, layout, module: OnceCell::new(), sites: RefCell::default() }
    }

    /// Frames of a goroutine, innermost first. `stack` holds the words from its stack pointer to the end of its stack. Empty if any
    /// frame cannot be read.
    pub(super) fn of(&self, waiter: Waiter, stack: &[u64]) -> Vec<Frame> {
        let word = |at: u64| stack.get(usize::try_from(at.checked_sub(waiter.bottom)? / 8).ok()?).copied();
        let (mut pc, mut sp) = (waiter.pc, waiter.bottom);
        let mut frames = Vec::new();
        for _ in 0..MAX_FRAMES {
            let Some(site) = self.site(pc) else { break };
            if site.is_top {
                return frames;
            }
            // amd64 keeps the return address above the frame, arm64 at its bottom.
            let returns = if PUSHED > 0 { sp.checked_add(site.size) } else { Some(sp) };
            let next = sp.checked_add(site.size + PUSHED);
            let (Some(frame), Some(caller), Some(above)) =
                (next.and_then(|end| frame(&site, sp, end, word)), returns.and_then(word), next)
            else {
                break;
            };
            frames.push(frame);
            (pc, sp) = (caller, above);
        }
        Vec::new()
    }

    /// The call site at this program counter.
    fn site(&self, pc: u64) -> Option<Rc<Site>> {
        if let Some(known) = self.sites.borrow().get(&pc) {
            return known.clone();
        }
        let module = self.module.get_or_init(|| self.find());
        let site = module.and_then(|module| self.read_site(&module, pc)).map(Rc::new);
        let mut sites = self.sites.borrow_mut();
        if sites.len() < MAX_SITES {
            sites.insert(pc, site.clone());
        }
        site
    }

    /// Reads size and pointer maps of the frames that wait at this program counter.
    fn read_site(&self, module: &Module, pc: u64) -> Option<Site> {
        let offset = pc.checked_sub(module.text.0).filter(|_| pc < module.text.1)?;
        let (start, function) = self.function_of(module, u32::try_from(offset).ok()?)?;
        // _func: entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset, since Go 1.20 startLine, and four bytes:
        // funcID, flag, padding, nfuncdata.
        let fixed = self.layout.function_fields;
        let field = |index: u32| self.u32(&module.functions, function + 4 * u64::from(index));
        let [_id, flags, _padding, data] = field(fixed - 1)?.to_le_bytes();
        let (entry, tables) = (module.text.0 + u64::from(start), field(7)?);
        // The size of a frame that moves its stack pointer by hand is unknown, and so are all frames further out.
        if field(0)? != start || flags & SP_WRITE != 0 || tables > 64 {
            return None;
        }
        let is_top = flags & TOP_FRAME != 0;
        let size = self.value_at(module, field(4)?, entry, pc).and_then(|size| u64::try_from(size).ok());
        let size = if is_top { 0 } else { size.filter(|size| size % 8 == 0)? };
        // The map's index is that of the call, just before the return address. Without an index, or with a negative one, the frame
        // has no live words.
        let index = (tables > STACK_MAP_INDEX).then(|| field(fixed + STACK_MAP_INDEX)).flatten();
        let index = index.and_then(|index| self.value_at(module, index, entry, pc.checked_sub(1)?));
        let index = index.and_then(|index| u32::try_from(index).ok());
        let map = |which: u32| {
            let at = (which < u32::from(data)).then(|| field(fixed + tables + which))??;
            self.map(module.function_data.checked_add(u64::from(at)).filter(|_| at != u32::MAX)?, index?)
        };
        let function = self.named(module, field(1)?)?;
        let (arguments, locals) = (map(ARGUMENTS).unwrap_or_default(), map(LOCALS).unwrap_or_default());
        Some(Site { function, is_top, size, arguments, locals })
    }

    /// Finds the function at this offset of the text: offsets of its entry and of its `_func`.
    fn function_of(&self, module: &Module, offset: u32) -> Option<(u32, u64)> {
        // Binary search in runtime.functab: entryoff, funcoff. The last entry is the end of the text.
        let entry = |at: u64| {
            let [start, function] = self.u32s(module.index.at(8 * at, 8)?)?;
            Some((start, u64::from(function)))
        };
        let (mut low, mut high) = (0, (module.index.bytes / 8).checked_sub(1)?);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if entry(middle)?.0 <= offset { low = middle } else { high = middle }
        }
        entry(low).filter(|(start, _)| *start <= offset)
    }

    /// Value of a table at this program counter (runtime/symtab.go: `pcvalue`). The table holds pairs of differences: of the value, and
    /// of the program counter up to which it holds.
    fn value_at(&self, module: &Module, table: u32, entry: u64, target: u64) -> Option<i32> {
        let mut bytes = Bytes { words: self.words, table: module.tables, at: table.into(), read: Vec::new(), next: 0 };
        let (mut pc, mut value) = (entry, -1_i32);
        for step in 0..MAX_STEPS {
            let delta = bytes.varint()?;
            // Table 0 does not exist; a difference of 0 ends a table.
            if table == 0 || (delta == 0 && step > 0) {
                return None;
            }
            // The difference of the value is zigzag-encoded.
            value = value.wrapping_add((delta >> 1).cast_signed() ^ -(delta & 1).cast_signed());
            pc = pc.checked_add(u64::from(bytes.varint()?) * QUANTUM)?;
            if target < pc {
                return Some(value);
            }
        }
        None
    }

    /// Reads one pointer map (runtime/symtab.go: `stackmap`): number of maps, bits of each, and the maps, each at a byte boundary.
    fn map(&self, at: u64, index: u32) -> Option<Vec<bool>> {
        let [maps, bits] = self.u32s(at)?;
        if index >= maps || bits > MAX_BITS {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(bits.div_ceil(8)).ok()?];
        let from = at.checked_add(8 + u64::from(index) * u64::from(bits.div_ceil(8)))?;
        self.words.program(from, &mut bytes)?;
        let bit = |bit: u32| bytes.get(usize::try_from(bit / 8).ok()?).map(|byte| byte >> (bit % 8) & 1 == 1);
        (0..bits).map(bit).collect()
    }

    /// The function with this name; `None` if a fault was recovered from here.
    fn named(&self, module: &Module, name: u32) -> Option<Function> {
        const NAMES: [(&[u8], Function); 2] =
            [(b"internal/poll.Splice\0", Function::Splice), (b"bufio.(*Reader).WriteTo\0", Function::WriteTo)];
        // A frame that faulted may be dead after recovery, whatever its maps say (runtime/traceback.go: `continpc`).
        const FAULT: &[u8] = b"runtime.sigpanic\0";
        let mut bytes = [0; 24];
        let left = module.names.bytes.checked_sub(name.into())?.min(24);
        let start = bytes.get_mut(..usize::try_from(left).ok()?)?;
        self.words.program(module.names.at(name.into(), left)?, start)?;
        let known = NAMES.iter().find(|(known, _)| bytes.starts_with(known));
        (!bytes.starts_with(FAULT)).then_some(known.map_or(Function::Other, |(_, function)| *function))
    }

    fn u32(&self, range: &Range, offset: u64) -> Option<u32> {
        self.u32s::<1>(range.at(offset, 4)?).map(|[number]| number)
    }

    fn u32s<const N: usize>(&self, at: u64) -> Option<[u32; N]> {
        let mut bytes = [[0; 4]; N];
        self.words.program(at, bytes.as_flattened_mut())?;
        Some(bytes.map(u32::from_le_bytes))
    }

    /// Searches the program's data for `runtime.firstmoduledata`: it begins with the address of a `pcHeader`.
    fn find(&self) -> Option<Module> {
        let mut left = MAX_SEARCH;
        for (start, end) in self.words.data() {
            let mut at = *start;
            while at < *end && left > 0 {
                let count = usize::try_from((end - at) / 8).ok()?.min(CHUNK + MODULE_WORDS);
                let Some(words) = self.words.program_words(at, count) else { break };
                let found = words.windows(4).enumerate().filter(|(_, words)| self.may_begin(words));
                for (index, _) in found {
                    if let Some(module) = self.module_at(at + 8 * u64::try_from(index).ok()?) {
                        return Some(module);
                    }
                }
                at += 8 * CHUNK as u64;
                left = left.saturating_sub(8 * CHUNK as u64);
            }
        }
        None
    }

    /// True if these words may begin a `runtime.moduledata`: a `pcHeader`, and `funcnametab`, which lies shortly behind it.
    fn may_begin(&self, words: &[u64]) -> bool {
        let [header, names, length, capacity] = words[..] else { return false };
        names.checked_sub(header).is_some_and(|offset| (8..256).contains(&offset))
            && length == capacity
            && self.words.is_of_program(header)
    }

    /// The tables of the `runtime.moduledata` at this address; `None` if it is no moduledata.
    fn module_at(&self, at: u64) -> Option<Module> {
        let words = self.words.program_words(at, MODULE_WORDS)?;
        let word = |index: usize| words.get(index).copied();
        let header = word(0)?;
        let mut start = [0; 8];
        self.words.program(header, &mut start)?;
        let [m0, m1, m2, m3, _, _, quantum, pointer] = start;
        let is_header =
            MAGIC.contains(&u32::from_le_bytes([m0, m1, m2, m3])) && u64::from(quantum) == QUANTUM && pointer == 8;
        let range = |index: usize, each: u64| {
            let bytes = word(index + 1)?.checked_mul(each)?;
            let start = word(index).filter(|start| start.checked_add(bytes).is_some())?;
            Some(Range { start, bytes })
        };
        // pcHeader, funcnametab, cutab, filetab, pctab, pclntable, ftab, findfunctab, minpc, maxpc, text, etext, and five pairs up to
        // `noptrbss`. The fields behind them depend on the version.
        let function_data = word(self.layout.function_data)?;
        let module = Module {
            names: range(1, 1)?,
            tables: range(10, 1)?,
            functions: range(13, 1)?,
            index: range(16, 8)?,
            text: (word(22)?, word(23)?),
            function_data,
        };
        let is_text = module.text.0 < module.text.1 && word(20)? == module.text.0;
        (is_header && is_text && self.words.is_of_program(function_data)).then_some(module)
    }
}

/// Reads the frame between these addresses.
fn frame(site: &Site, sp: u64, end: u64, word: impl Fn(u64) -> Option<u64>) -> Option<Frame> {
    // The saved frame pointer lies below the return address. A frame of size 0 has none.
    let top = end.checked_sub(PUSHED)?;
    let top = if top > sp { top.checked_sub(8)? } else { top };
    let bottom = top.checked_sub(8 * u64::try_from(site.locals.len()).ok()?).filter(|bottom| *bottom >= sp)?;
    let slots = |from: u64, bits: &[bool]| {
        let words = bits.iter().enumerate().map(|(index, live)| {
            let word = word(from.checked_add(8 * u64::try_from(index).ok()?)?)?;
            Some(Argument { word, live: *live })
        });
        words.collect::<Option<Vec<_>>>()
    };
    let locals = slots(bottom, &site.locals)?;
    let locals = locals.into_iter().filter(|local| local.live).map(|local| local.word).collect();
    Some(Frame { function: site.function, arguments: slots(end + MIN_FRAME, &site.arguments)?, locals })
}

/// A table of varints, read piece by piece.
struct Bytes<'a> {
    words: &'a Words<'a>,
    table: Range,
    at: u64,
    read: Vec<u8>,
    next: usize,
}

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        if self.next == self.read.len() {
            let left = self.table.bytes.checked_sub(self.at)?.min(128);
            self.read.resize(usize::try_from(left).ok()?, 0);
            self.words.program(self.table.at(self.at, left)?, &mut self.read)?;
            self.at += left;
            self.next = 0;
        }
        let byte = self.read.get(self.next).copied();
        self.next += 1;
        byte
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in (0..32).step_by(7) {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
