//! The BPF object of execpath: watches the processes of the exec path and pairs their sockets in the kernel.
//!
//! * `probes` has one file per family; entries are thin, logic is in `try_…` functions.
//! * `watch` decides who is on the path, `joins` who moved bytes from which socket to which.
//! * `reads` joins the FIFOs of a runtime to its sockets, on demand.
//! * `kernel` reads kernel structures at offsets that the loader found in BTF.
//! * `emit` is the only way to the ring buffer: it numbers records and counts those that do not fit.

#![no_std]
#![no_main]

mod emit;
mod joins;
mod kernel;
mod maps;
mod probes;
mod reads;
mod watch;

/// Needed for the helpers that read kernel memory: only GPL-compatible programs may call them.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could get here in a loop.
    loop {}
}
