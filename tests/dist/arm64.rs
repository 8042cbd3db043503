//! Artefacts for arm64: the program runs in QEMU's user mode, which has no kernel of its own to trace. `cargo xtask kernels` boots one.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{artefact, dist, repository, run, succeed};

/// The only artefact with this ending, or `None` if the artefacts are those of this machine alone.
fn built(ending: &str) -> Option<PathBuf> {
    let has_arm64 = fs::read_dir(dist())
        .expect("a directory")
        .any(|entry| entry.expect("an entry").file_name().to_string_lossy().ends_with("-linux-arm64"));
    if !has_arm64 {
        eprintln!("skipped: the artefacts were built without --arm64");
    }
    has_arm64.then(|| artefact(ending))
}

#[test]
fn program_prints_what_the_other_prints() {
    let Some(program) = built("-linux-arm64") else { return };
    let own = artefact("-linux-amd64");
    for (recording, format) in [("terminal", "tree"), ("crowds/crowd-200", "jsonl")] {
        let recording = repository(&format!("tests/recordings/{recording}.jsonl.zst"));
        // QEMU's own system calls are not those that the program permits itself.
        let words = ["--no-sandbox", "replay", "-o", format, &recording.display().to_string()].map(str::to_owned);
        let emulated = succeed(Command::new("qemu-aarch64-static").arg(&program).args(&words));
        assert!(emulated == succeed(Command::new(&own).args(&words)), "{format}");
        assert!(!emulated.is_empty());
    }
}

#[test]
fn packages_name_their_architecture() {
    let (Some(deb), Some(rpm)) = (built("_arm64.deb"), built(".aarch64.rpm")) else { return };
    let deb = deb.display().to_string();
    assert_eq!(run("dpkg-deb", ["--field", &deb, "Architecture"]).trim(), "arm64");
    assert_eq!(run("rpm", ["-qp", "--queryformat", "%{ARCH}", &rpm.display().to_string()]), "aarch64");
}

#[test]
fn image_and_krew_name_their_architecture() {
    let (Some(image), Some(archive)) = (built("-image-arm64.tar"), built("-linux-arm64.tar.gz")) else { return };
    let manifest = run("tar", ["-xOf", &image.display().to_string(), "manifest.json"]);
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    let config = manifest[0]["Config"].as_str().expect("a file");
    let config: Value =
        serde_json::from_str(&run("tar", ["-xOf", &image.display().to_string(), config])).expect("JSON");
    assert_eq!(config["architecture"], "arm64");
    let plugin = fs::read_to_string(artefact("execpath.yaml")).expect("a manifest");
    let sum = run("sha256sum", [&archive]);
    let (_, block) = plugin.split_once("arch: arm64").expect("a platform");
    assert!(block.contains(&sum[..64]), "{sum}\n{plugin}");
}
