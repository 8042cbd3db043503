//! The package for distributions with RPM: listed, and unpacked and run.

use std::process::Command;

use crate::{
    artefact,
    debian::{Package, in_debian, unit_records_exec_with_its_capabilities_alone},
    run,
};

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
    let ran = in_debian(
        Package::Rpm,
        r#"
        in_root execpath --version
        in_root stat -c %a /usr/bin/execpath /usr/lib/systemd/system/execpath-record.service
        "#,
    );
    assert_eq!(ran.stdout, format!("execpath {}\n755\n644\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn command_of_unit_records_with_its_capabilities_alone() {
    unit_records_exec_with_its_capabilities_alone(Package::Rpm);
}

#[test]
fn digests_of_package_are_right() {
    let verified = Command::new("rpm").args(["-K", "--nosignature"]).arg(artefact(".x86_64.rpm")).output();
    let verified = verified.expect("rpm runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
