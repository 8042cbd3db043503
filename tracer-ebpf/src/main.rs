//! The BPF object of execpath: watches the processes of the exec path and pairs their sockets in the kernel.
//!
//! * `probes` has one file per family. Entries are thin; the logic is in `try_…` functions.
//! * `watch` adds processes to the path; `pairing` pairs the sockets between which a process moves bytes.
//! * `reads` pairs the FIFOs of a runtime with its sockets, on demand.
//! * `kernel` reads kernel structures at offsets that the loader found in BTF.
//! * `emit` is the only way to the ring buffer: it numbers records and counts lost ones.

#![no_std]
#![no_main]

mod emit;
mod kernel;
mod maps;
mod pairing;
mod probes;
mod reads;
mod watch;

/// Only GPL-compatible programs may call the helpers that read kernel memory.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the verifier rejects a program that could get here in a loop.
    loop {}
}
