//! Two container images built from the machine's static busybox, so that the lab needs no registry.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::hint::hinted;
use crate::image::{Image, append, header, own_architecture};
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
        let image = Image {
            name,
            architecture: own_architecture(),
            created: None,
            created_by: "cargo xtask lab",
            config: json!({
                "Env": ["PATH=/bin"],
                "Entrypoint": entrypoint,
                "Cmd": if entrypoint.is_some() { None } else { Some(["sh"]) },
            }),
            layer: &layer,
        };
        fs::write(dir.join(file), image.archive()?)?;
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

#[cfg(test)]
mod tests {
    use super::{layer, needs_libraries};

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
