//! Clients before their first connection: a credential plugin or a name server may keep a kubectl waiting.

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_comm};

use crate::watch::enrol;

/// Name of the client's program.
const NAME: [u8; 7] = *b"kubectl";

/// Adds a kubectl to the path at its execve. Other clients are added when they connect.
///
/// kernel: fs/exec.c:begin_new_exec sets `comm` to the name of the file before sched_process_exec
#[inline(always)]
pub fn started<C: EbpfContext>(ctx: &C) {
    let Ok(comm) = bpf_get_current_comm() else { return };
    // A version may follow (`kubectl.1.33`, `kubectl-1.33`); a plugin is another program (`kubectl-NAME`).
    let is_plugin = matches!(comm[7], b'-' | b'_') && !comm[8].is_ascii_digit() && comm[8] != b'v';
    if comm[..7] == NAME && !is_plugin {
        enrol(ctx);
    }
}
