//! Latency from an execve to the printed line.

use crate::env::{soak, xtask};

#[test]
fn latency_from_execve_to_line_is_short() {
    let runs = if soak() { "100" } else { "20" };
    let output = xtask(&["bench", "latency", "--runs", runs]).output().expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("p99"), "{text}");
}
