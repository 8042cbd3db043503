//! Instruction counts of the verifier, for `cargo xtask kernels`, which keeps them.

use crate::trace::Trace;

/// The kernel walks at most a million instructions of a program.
const MOST: u32 = 1_000_000;

#[test]
fn verifier_walks_few_instructions() {
    let trace = Trace::on_ports(&[]);
    let mut known = 0;
    for (name, info) in trace.probes.programs() {
        // The kernel reports the number since Linux 5.16.
        if let Some(count) = info.verified_instruction_count() {
            eprintln!("verified {name} {count}");
            assert!(count < MOST / 4, "{name}: the verifier walks {count} instructions");
            known += 1;
        }
    }
    if known == 0 {
        eprintln!("skipped: this kernel does not report verified instructions");
    }
}
