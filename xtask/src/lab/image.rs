//! Two container images built from the machine's static busybox, so that the lab needs no registry.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::hint::hinted;
use crate::tools::{command, find, run};

/// Image of all containers: a shell and its tools.
pub(super) const BOX: &str = "localhost/lab/box:1";
/// Image of the pause container, which holds a pod's namespaces.
pub(super) const PAUSE: &str = "localhost/lab/pause:1";

/// Writes `box.tar` and `pause.tar` into `dir`. Each archive carries its image's name.
pub(super) fn write(dir: &Path) -> Result<()> {
    let busybox = find("busybox").context("no busybox on PATH")?;
    let program = fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    if needs_libraries(&program) {
        let what = format!("{} is linked dynamically and cannot run in an image alone", busybox.display());
        return Err(hinted(what, "apt-get install busybox-static"));
    }
    let applets = run(command(&busybox).arg("--list"))?;
    let applets: Vec<&str> = applets.lines().filter(|name| *name != "busybox").collect();
    let layer = layer(&program, &applets)?;
    for (file, name, entrypoint) in [("box.tar", BOX, None), ("pause.tar", PAUSE, Some(["/bin/sleep", "2147483647"]))] {
        let archive = archive(&layer, name, entrypoint.as_ref().map(<[_; 2]>::as_slice))?;
        fs::write(dir.join(file), archive)?;
    }
    Ok(())
}

/// True if the program names a dynamic loader.
fn needs_libraries(program: &[u8]) -> bool {
    let loader: &[u8] = b"/ld-linux";
    program.windows(loader.len()).any(|window| window == loader)
}

fn layer(busybox: &[u8], applets: &[&str]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        let mut header = header(tar::EntryType::Directory, 0o755);
        tar.append_data(&mut header, dir, std::io::empty())?;
    }
    append(&mut tar, "bin/busybox", busybox, 0o755)?;
    append(&mut tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)?;
    append(&mut tar, "etc/group", b"root:x:0:\n", 0o644)?;
    for applet in applets {
        let mut header = header(tar::EntryType::Symlink, 0o777);
        tar.append_link(&mut header, Path::new("bin").join(applet), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

/// Builds an archive in the format of `docker save`. Both `ctr images import` and `docker load` read it.
fn archive(layer: &[u8], name: &str, entrypoint: Option<&[&str]>) -> Result<Vec<u8>> {
    let layer_id = sha256(layer);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin"],
            "Entrypoint": entrypoint,
            "Cmd": if entrypoint.is_some() { None } else { Some(["sh"]) },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_id}")]},
        "history": [{"created_by": "cargo xtask lab"}],
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", sha256(&config));
    let layer_name = format!("{layer_id}/layer.tar");
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]);

    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, &config_name, &config, 0o644)?;
    append(&mut tar, &layer_name, layer, 0o644)?;
    append(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?, 0o644)?;
    Ok(tar.into_inner()?)
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, data: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(data.len().try_into()?);
    Ok(tar.append_data(&mut header, path, data)?)
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn sha256(data: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(data).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::{archive, layer, needs_libraries, sha256};

    #[test]
    fn archive_names_parts_by_digest() {
        let layer = layer(b"not really busybox", &["sh", "cat"]).expect("a layer");
        let archive = archive(&layer, "localhost/lab/x:1", Some(&["/bin/sleep"])).expect("an archive");
        let mut names = Vec::new();
        let mut manifest = String::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().expect("a tar file") {
            let mut entry = entry.expect("an entry");
            names.push(entry.path().expect("a name").display().to_string());
            if names.last().is_some_and(|name| name == "manifest.json") {
                entry.read_to_string(&mut manifest).expect("text");
            }
        }
        assert_eq!(names.len(), 3);
        assert_eq!(names[1], format!("{}/layer.tar", sha256(&layer)));
        assert!(manifest.contains(&names[0]) && manifest.contains("localhost/lab/x:1"));
    }

    #[test]
    fn applets_are_links() {
        let layer = layer(b"not really busybox", &["sh"]).expect("a layer");
        let mut archive = tar::Archive::new(layer.as_slice());
        let mut entries = archive.entries().expect("a tar file").map(|entry| entry.expect("an entry"));
        let sh = entries.find(|entry| entry.path().is_ok_and(|path| path.ends_with("bin/sh"))).expect("bin/sh");
        assert_eq!(sh.link_name().expect("a link").expect("a target").as_ref(), std::path::Path::new("busybox"));
    }

    #[test]
    fn dynamic_program_is_detected() {
        assert!(needs_libraries(b"\x7fELF....../lib64/ld-linux-x86-64.so.2\0"));
        assert!(!needs_libraries(b"\x7fELF......"));
    }
}
