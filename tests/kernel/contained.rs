//! A tracer that sees the host's files elsewhere, in pid and mount namespaces of its own.

use std::{fs, path::Path, process::Command};

use execpath_tests::binary::{self, Ran, finish};
use serde_json::Value;

/// Makes namespaces as a container has them: the host's root is at `$host`, and `/proc` and `/sys` show nothing of the host. Then
/// runs the arguments.
const CONTAINER: &str =
    "mount --rbind / \"$host\" && mount -t proc proc /proc && mount -t tmpfs tmpfs /sys && exec \"$@\"";

/// Runs execpath in a container with the host's root at `host`; `None` if no namespaces can be made.
fn contained(host: &Path, arguments: &[&str]) -> Option<Ran> {
    let own = binary::command();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--fork", "sh", "-c", CONTAINER, "sh"]).env("host", host);
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    let ran = finish(unshare.arg(binary::path()).args(arguments));
    if ran.stderr.contains("unshare failed") {
        eprintln!("skipped: {}", ran.stderr);
        return None;
    }
    Some(ran)
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr))
}

/// The relay is matched only if the probes and the tracer number processes alike.
#[test]
fn doctor_in_container_finds_host_below_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = folder.path().join("host");
    fs::create_dir(&host).expect("a folder");
    let root = host.to_string_lossy();
    let outside = report(&binary::run(["doctor", "-o", "json"]));
    let Some(ran) = contained(&host, &["doctor", "-o", "json", "--host-root", &root]) else { return };
    let inside = report(&ran);
    for key in ["road", "ready", "relay_matched"] {
        assert_eq!(inside[key], outside[key], "{key}: {inside:#}");
    }
    assert_eq!(inside["relay_matched"], true, "{inside:#}");
    assert_eq!(inside["host"]["boot_id"], outside["host"]["boot_id"]);
    assert_eq!(inside["host"]["tracefs"], format!("{root}/sys/kernel/tracing"));
    let reason = inside["host"]["reach"]["iterator_refused"].as_str().expect("a reason");
    assert!(reason.contains("pid namespace of its own"), "{reason}");
    assert!(
        inside["degraded"].as_array().expect("a list").iter().any(|one| one["code"] == "no-iterator"),
        "{inside:#}"
    );
}

#[test]
fn doctor_in_container_needs_the_hosts_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(ran) = contained(folder.path(), &["doctor", "-o", "json"]) else { return };
    let inside = report(&ran);
    let codes: Vec<&str> =
        inside["degraded"].as_array().expect("a list").iter().filter_map(|one| one["code"].as_str()).collect();
    assert!(codes.contains(&"no-btf") && inside["ready"] == false, "{codes:?}");
}

#[test]
fn types_are_read_from_named_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("types");
    fs::copy("/sys/kernel/btf/vmlinux", &file).expect("there is room");
    let ran = binary::run(["doctor", "-o", "json", "--btf", &file.to_string_lossy()]);
    assert_eq!(report(&ran)["relay_matched"], true, "{}", ran.stdout);
    fs::write(&file, "none").expect("there is room");
    let ran = binary::run(["doctor", "-o", "json", "--btf", &file.to_string_lossy()]);
    assert_eq!((ran.code, report(&ran)["ready"].as_bool()), (Some(4), Some(false)), "{}", ran.stdout);
}
