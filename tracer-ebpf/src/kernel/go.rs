//! Identifies the running goroutine. Go ≥ 1.17 keeps its `g` in a register, and system-call stubs leave it there. So
//! the saved user registers name the goroutine (src/cmd/compile/abi-internal.md of Go).

use aya_ebpf::helpers::bpf_probe_read_user;
use tracer_common::{Actor, ActorKey, Watch};

use super::{
    config, read,
    task::{Task, current_pid_tgid},
};

/// Smallest and largest stack of a goroutine (src/runtime/proc.go: stackMin, maxstacksize).
const STACK_BYTES: core::ops::RangeInclusive<u64> = 2048..=1 << 30;

/// The goroutine that made the system call, or `None`.
///
/// Other programs use the register of `g` freely, and in a Go program C code may make calls too. So a value counts as
/// a `g` only if it names the stack of the call: in every version of Go, its first two words are the stack's bounds
/// (src/runtime/runtime2.go: `g.stack`). Thread-local storage cannot identify Go: ordinary programs keep pointers
/// both there and in the register.
#[inline(always)]
fn goroutine() -> Option<u64> {
    let registers = Task::current_registers();
    let g = read::<u64>(registers, config!(g_register)).filter(|g| *g != 0)?;
    let stack = read::<u64>(registers, config!(stack_register))?;
    // SAFETY: the helper checks the address.
    let [low, high] = unsafe { bpf_probe_read_user(g as *const [u64; 2]) }.ok()?;
    (low < stack && stack <= high && STACK_BYTES.contains(&(high - low))).then_some(g)
}

/// The actor of the current call, and its key. Updates `watch.go`, the knowledge of whether the process is Go.
#[inline(always)]
pub fn actor(tgid: u32, watch: &mut Watch) -> (ActorKey, Actor) {
    let mut actor = Actor::NONE;
    if watch.go != Watch::GO_NO {
        if let Some(g) = goroutine() {
            watch.go = Watch::GO_YES;
            actor.g = g;
            actor.goid = word_of(g, watch.goid_offset);
            actor.parent_goid = word_of(g, watch.parent_goid_offset);
        } else if watch.go == Watch::GO_UNKNOWN {
            watch.misses = watch.misses.saturating_add(1);
            if watch.misses >= Watch::GO_MISSES {
                watch.go = Watch::GO_NO;
            }
        }
    }
    let id = if actor.g != 0 { actor.g } else { ActorKey::THREAD | (current_pid_tgid() & 0xffff_ffff) };
    (ActorKey { actor: id, tgid, reserved: 0 }, actor)
}

/// A word of the runtime's `g`; 0 if the offset is unknown for this Go version.
#[inline(always)]
fn word_of(g: u64, offset: u16) -> u64 {
    if offset == 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user((g + u64::from(offset)) as *const u64) }.unwrap_or(0)
}
