//! The package for distributions with RPM: listed, and unpacked and run.

use std::process::Command;

use crate::{artefact, run, sandbox, succeed};

#[test]
fn package_lists_its_files() {
    let rpm = artefact(".x86_64.rpm").display().to_string();
    let files = run("rpm", ["-qlp", &rpm]);
    for file in [
        "/usr/bin/execpath",
        "/etc/execpath/record.conf",
        "/usr/lib/systemd/system/execpath-record.service",
        "/usr/share/man/man1/execpath.1",
        "/usr/share/man/man1/execpath-record.1",
        "/usr/share/bash-completion/completions/execpath",
    ] {
        assert!(files.lines().any(|line| line.trim_end_matches(".gz") == file), "{file} is missing in\n{files}");
    }
    assert_eq!(run("rpm", ["-qcp", &rpm]).trim(), "/etc/execpath/record.conf", "the configuration is kept by upgrades");
    let requires = run("rpm", ["-qRp", &rpm]);
    // The shell of the scripts, the package's own configuration, and abilities of rpm itself.
    let is_usual =
        |line: &str| line == "/bin/sh" || line.starts_with("config(execpath)") || line.starts_with("rpmlib(");
    assert!(requires.lines().all(is_usual), "{requires}");
}

#[test]
fn unpacked_package_runs() {
    let rpm = artefact(".x86_64.rpm");
    let unpack = r#"
        mount -t tmpfs tmpfs "$2"
        cd "$2"
        rpm2cpio "$1" | cpio --extract --make-directories --quiet
        ./usr/bin/execpath --version
        stat -c %a usr/bin/execpath usr/lib/systemd/system/execpath-record.service
    "#;
    let folder = tempfile::tempdir().expect("a folder");
    let out = succeed(&mut sandbox::script(unpack, &[&rpm, folder.path()]));
    assert_eq!(out, format!("execpath {}\n755\n644\n", env!("CARGO_PKG_VERSION")));
    let verified = Command::new("rpm").args(["-K", "--nosignature"]).arg(&rpm).output().expect("rpm runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
