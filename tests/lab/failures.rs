//! Failures of each kind, reported with their stage and cause: a few, or the whole of `cargo xtask lab failures`.

use crate::env::{lab, soak, xtask};

#[test]
fn failures_are_reported_with_stage_and_cause() {
    let whole = ["lab", "failures", "--write", "docs/failures.md"];
    let few = ["lab", "failures", "--count", "2"];
    // Quick ones, from the client to the command.
    let kinds = ["name of", "plugin", "no such pod", "does not run", "has ended", "not found", "killed", "restarts"];
    let mut failures = if soak() { xtask(&whole) } else { xtask(&few) };
    if !soak() {
        failures.args(kinds.iter().flat_map(|kind| ["--kind", kind]));
    }
    let output = failures.output().expect("cargo runs");
    // The kubelet was stopped and started.
    lab().daemons_changed();
    let (text, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{text}");
    assert!(output.status.success(), "{stderr}");
}
