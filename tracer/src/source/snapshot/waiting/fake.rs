//! Made-up memory of a Go program for tests: a heap, stacks, and the linker's tables.

use std::collections::BTreeMap;

use super::{
    frames::{MIN_FRAME, PUSHED, QUANTUM},
    memory::Memory,
};
use crate::source::snapshot::procfs::Mappings;

/// Address of an interface's type.
pub(super) const TYPE: u64 = 0x20_0000;
/// Address of `runtime.moduledata`, and of its tables.
pub(super) const PROGRAM: u64 = 0x30_0000;
const TABLES: u64 = PROGRAM + 0x1000;
const TEXT: u64 = 0x40_0000;
/// Bytes of each function's text.
const FUNCTION: u64 = 0x100;
/// Words of each function's arguments.
const ARGUMENTS: u32 = 16;
pub(super) const LOCALS: u32 = 3;

/// A function of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// The goroutine is parked here. No arguments.
    Park,
    /// All arguments and the first local variable are live.
    Copy,
    /// As `Copy`, but no argument is live.
    Leave,
    Splice,
    WriteTo,
    /// The outermost frame.
    Exit,
    /// A frame of unknown size.
    Switch,
    /// Recovers from a fault.
    Fault,
}

impl Calls {
    const ALL: [Self; 8] =
        [Self::Park, Self::Copy, Self::Leave, Self::Splice, Self::WriteTo, Self::Exit, Self::Switch, Self::Fault];

    fn name(self) -> &'static str {
        match self {
            Self::Park => "runtime.gopark",
            Self::Copy => "io.copyBuffer",
            Self::Leave => "main.leave",
            Self::Splice => "internal/poll.Splice",
            Self::WriteTo => "bufio.(*Reader).WriteTo",
            Self::Exit => "runtime.goexit",
            Self::Switch => "runtime.systemstack_switch",
            Self::Fault => "runtime.sigpanic",
        }
    }

    /// A program counter in the middle of the function.
    pub(super) fn pc(self) -> u64 {
        let index = Self::ALL.iter().position(|one| *one == self).unwrap() as u64;
        TEXT + FUNCTION * index + 0x40
    }

    fn flags(self) -> u8 {
        match self {
            Self::Exit => 1,
            Self::Switch => 2,
            Self::Park | Self::Copy | Self::Leave | Self::Splice | Self::WriteTo | Self::Fault => 0,
        }
    }

    /// Pointer maps of arguments and of local variables.
    fn maps(self) -> Option<(u32, u32)> {
        match self {
            Self::Copy => Some((0xffff, 1)),
            Self::Splice => Some((0b11, 0)),
            Self::WriteTo => Some((0b101, 0)),
            Self::Leave => Some((0, 0)),
            Self::Park | Self::Exit | Self::Switch | Self::Fault => None,
        }
    }
}

/// Words by address. Missing words are 0.
pub(super) struct Fake(pub(super) BTreeMap<u64, u64>);

impl Fake {
    /// The tables of a program, and nothing else.
    pub(super) fn program() -> Self {
        let mut memory = Self(BTreeMap::new());
        memory.link();
        memory
    }

    pub(super) fn put(&mut self, at: u64, words: &[u64]) {
        self.0.extend((at..).step_by(8).zip(words.iter().copied()));
    }

    fn put_bytes(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            let (word, shift) = (self.0.entry(at - at % 8).or_default(), at % 8 * 8);
            *word = *word & !(0xff << shift) | u64::from(*byte) << shift;
        }
    }

    /// Parks a goroutine of Go 1.19 in a copy with these arguments, on a stack of one page.
    pub(super) fn park(&mut self, g: u64, stack: u64, words: &[u64]) {
        self.park_in(Calls::Copy, g, stack, words);
    }

    /// Parks a goroutine in a call of this function.
    pub(super) fn park_in(&mut self, calls: Calls, g: u64, stack: u64, words: &[u64]) {
        let top = stack + 0x1000;
        self.put(g, &[stack, top]);
        self.put(g + 56, &[top - 0x100, Calls::Park.pc(), g]);
        self.put(g + 144, &[4, g]);
        let (parked, arguments) = (top - 0x100, top - 0x80);
        let called = arguments - MIN_FRAME - SIZE - PUSHED;
        let returns = |end: u64, start: u64| if PUSHED > 0 { end - 8 } else { start };
        self.put(returns(called, parked), &[calls.pc()]);
        self.put(returns(arguments - MIN_FRAME, called), &[Calls::Exit.pc()]);
        self.put(arguments, words);
    }

    /// Address of the first local variable of the called function.
    pub(super) fn locals(stack: u64) -> u64 {
        stack + 0x1000 - 0x80 - MIN_FRAME - PUSHED - 8 - 8 * u64::from(LOCALS)
    }

    /// Writes the tables of Go 1.19's linker (runtime/symtab.go).
    fn link(&mut self) {
        // Table 0 is none.
        let (mut tables, mut names, mut functions) = (vec![0], Vec::new(), Vec::new());
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (number, calls) in Calls::ALL.into_iter().enumerate() {
            let entry = u32::try_from(number).unwrap() * 0x100;
            index.extend([entry, u32::try_from(functions.len()).unwrap()].map(u32::to_le_bytes).as_flattened());
            let mut table = |value: u64| {
                let at = u32::try_from(tables.len()).unwrap();
                tables.extend(varint(2 * (value + 1)).into_iter().chain(varint(FUNCTION / QUANTUM)).chain([0]));
                at
            };
            let parked = 0x80 - MIN_FRAME - SIZE - 2 * PUSHED;
            let size = table(if calls == Calls::Park { parked } else { SIZE });
            let maps = table(0);
            let mut map = |words: u32, bits: u32| {
                let at = u32::try_from(data.len()).unwrap();
                data.extend([1, words].map(u32::to_le_bytes).as_flattened());
                data.extend(&bits.to_le_bytes()[..words.div_ceil(8) as usize]);
                data.resize(data.len().next_multiple_of(4), 0);
                at
            };
            let [arguments, locals] = calls
                .maps()
                .map_or([u32::MAX; 2], |(arguments, locals)| [map(ARGUMENTS, arguments), map(LOCALS, locals)]);
            let name = u32::try_from(names.len()).unwrap();
            names.extend(calls.name().bytes().chain([0]));
            let last = u32::from_le_bytes([0, calls.flags(), 0, 2]);
            // Two tables: unsafe points, and indexes of maps.
            let words = [entry, name, 0, 0, size, 0, 0, 2, 0, last, 0, maps, arguments, locals];
            functions.extend(words.map(u32::to_le_bytes).as_flattened());
        }
        let end = u32::try_from(Calls::ALL.len()).unwrap() * 0x100;
        index.extend([end, 0].map(u32::to_le_bytes).as_flattened());
        self.load([&names, &tables, &functions, &index, &data], Calls::ALL.len() as u64);
    }

    fn load(&mut self, [names, tables, functions, index, data]: [&[u8]; 5], count: u64) {
        self.put(TABLES, &[u64::from(0xffff_fff0_u32) | QUANTUM << 48 | 8 << 56, count]);
        let mut at = TABLES + 0x60;
        let mut load = |bytes: &[u8]| {
            let start = at;
            self.put_bytes(start, bytes);
            at = (start + bytes.len() as u64).next_multiple_of(8);
            start
        };
        let starts = [names, tables, functions, index, data].map(&mut load);
        let slice = |start: u64, length: usize| [start, length as u64, length as u64];
        let end = TEXT + FUNCTION * count;
        self.put(PROGRAM, &[TABLES]);
        self.put(PROGRAM + 8, &slice(starts[0], names.len()));
        self.put(PROGRAM + 80, &slice(starts[1], tables.len()));
        self.put(PROGRAM + 104, &slice(starts[2], functions.len()));
        self.put(PROGRAM + 128, &slice(starts[3], index.len() / 8));
        self.put(PROGRAM + 160, &[TEXT, end, TEXT, end]);
        self.put(PROGRAM + 304, &[starts[4]]);
    }
}

/// Size of a frame in bytes: the saved frame pointer and the local variables.
const SIZE: u64 = 8 + 8 * LOCALS as u64;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

impl Memory for Fake {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        for (at, byte) in (at..).zip(into) {
            let word = self.0.get(&(at - at % 8)).copied().unwrap_or(0);
            *byte = word.to_le_bytes()[usize::try_from(at % 8).unwrap()];
        }
        true
    }
}

pub(super) fn mappings() -> Mappings {
    let data = (PROGRAM, PROGRAM + 0x4000);
    Mappings { anonymous: vec![(0x1000, 0x10_0000)], files: vec![(TYPE, TYPE + 0x1000), data], data: vec![data] }
}
