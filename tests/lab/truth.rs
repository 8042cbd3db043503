//! Share of correct links over many sessions: a tenth or the whole of `cargo xtask lab truth`.

use crate::env::{soak, xtask};

#[test]
fn truth_suite_finds_no_wrong_link() {
    let whole = ["lab", "truth", "--suite", "whole", "--write", "docs/truth.md"];
    let tenth = ["lab", "truth", "--suite", "tenth"];
    let output = xtask(if soak() { &whole } else { &tenth }).output().expect("cargo runs");
    let (text, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{text}");
    assert!(output.status.success(), "{stderr}");
}
