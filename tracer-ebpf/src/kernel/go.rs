//! Which goroutine runs: Go ≥ 1.17 keeps its `g` in a register, and system-call stubs leave it there, so the saved user
//! registers name the goroutine (src/cmd/compile/abi-internal.md of Go).

use aya_ebpf::helpers::{bpf_probe_read_user, generated::bpf_task_pt_regs};
use tracer_common::{Actor, LastKey, Watch};

use super::{
    read,
    task::{Task, current_pid_tgid},
};
use crate::maps::CONFIG;

/// Where Go keeps `g` below the thread pointer (src/runtime/asm_amd64.s: `runtime·tls_g`, ELF targets).
const TLS_G: u64 = 8;

#[inline(always)]
fn g_register(task: Task) -> u64 {
    // SAFETY: the task came from `bpf_get_current_task_btf`; the result is read through a checking helper.
    let registers = unsafe { bpf_task_pt_regs(task.0 as *mut _) } as u64;
    // SAFETY: a plain read of an initialised static; volatile because the loader overwrites it.
    let g_register = unsafe { core::ptr::read_volatile(&raw const CONFIG.g_register) };
    read(registers, g_register).unwrap_or(0)
}

/// Finds out, once per program image, whether the process is a Go program: then the register and the thread-local `g`
/// are the same word. Measured equal in each of 1,777 calls of three Go programs; chance equality of a non-zero word in a
/// program that is not Go would need it to keep its own thread pointer's neighbour in R14.
#[inline(always)]
fn probe(task: Task, g: u64) -> bool {
    match task.fsbase() {
        Some(base) if g != 0 => {
            // SAFETY: the helper checks the address.
            let thread_local = unsafe { bpf_probe_read_user((base - TLS_G) as *const u64) };
            thread_local == Ok(g)
        }
        _ => false,
    }
}

/// The actor of the call under way, and its key. `watch` learns here whether the process is Go.
#[inline(always)]
pub fn actor(tgid: u32, watch: &mut Watch) -> (LastKey, Actor) {
    let task = Task::current();
    let mut actor = Actor { g: 0, goid: 0, parent_goid: 0 };
    if watch.go != Watch::GO_NO {
        let g = g_register(task);
        if watch.go == Watch::GO_UNKNOWN && probe(task, g) {
            watch.go = Watch::GO_YES;
        }
        if watch.go == Watch::GO_YES {
            actor.g = g;
            actor.goid = word_of(g, watch.goid_offset);
            actor.parent_goid = word_of(g, watch.parent_goid_offset);
        }
    }
    let named = if actor.g != 0 { actor.g } else { LastKey::THREAD | (current_pid_tgid() & 0xffff_ffff) };
    (LastKey { actor: named, tgid, reserved: 0 }, actor)
}

/// A word of the runtime's `g`; 0 where the offset is not known for this Go version.
#[inline(always)]
fn word_of(g: u64, offset: u16) -> u64 {
    if offset == 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user((g + u64::from(offset)) as *const u64) }.unwrap_or(0)
}
