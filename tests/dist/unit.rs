//! The systemd unit.

use crate::{repository, run};

/// Largest exposure that `systemd-analyze security` may compute, in tenths: 0 is none, 100 is all. CAP_SYS_ADMIN and the host's own
/// processes and network are the larger part.
const MAX_EXPOSURE: &str = "30";

#[test]
fn exposure_of_unit_is_limited() {
    let unit = repository("packaging/systemd/execpath-record.service");
    let threshold = format!("--threshold={MAX_EXPOSURE}");
    let report =
        run("systemd-analyze", ["security", "--offline=true", "--no-pager", &threshold, &unit.display().to_string()]);
    let last = report.lines().last().unwrap_or_default();
    eprintln!("{last}");
    assert!(last.contains("Overall exposure level"), "{report}");
}

#[test]
fn unit_has_no_mistake() {
    // The program is not installed on this machine: that line is expected.
    let unit = repository("packaging/systemd/execpath-record.service");
    let output = std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output();
    let stderr = String::from_utf8_lossy(&output.expect("systemd-analyze runs").stderr).into_owned();
    let about_unit =
        |line: &&str| line.contains("execpath-record.service") && !line.contains("/usr/bin/execpath is not executable");
    let mistakes: Vec<&str> = stderr.lines().filter(about_unit).collect();
    assert!(mistakes.is_empty(), "{stderr}");
}
