//! Container images built without a container engine: a layer and a description in one archive, the same bytes at every call.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An image of one layer.
pub(crate) struct Image<'a> {
    /// Name with tag.
    pub(crate) name: &'a str,
    /// Go's name of the architecture.
    pub(crate) architecture: &'a str,
    /// Time of creation, in RFC 3339; `None` leaves it out.
    pub(crate) created: Option<&'a str>,
    /// Program that made the image.
    pub(crate) created_by: &'a str,
    /// The configuration of containers: entry point, environment, labels (OCI image specification, `config`).
    pub(crate) config: Value,
    /// The layer: an archive of its files.
    pub(crate) layer: &'a [u8],
}

impl Image<'_> {
    /// Builds an archive in the format of `docker save`. Both `ctr images import` and `docker load` read it.
    pub(crate) fn archive(&self) -> Result<Vec<u8>> {
        let layer_id = sha256(self.layer);
        let mut description = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_id}")]},
            "history": [{"created_by": self.created_by}],
        });
        if let Some(created) = self.created {
            description["created"] = json!(created);
            description["history"][0]["created"] = json!(created);
        }
        let description = serde_json::to_vec(&description)?;
        let description_name = format!("{}.json", sha256(&description));
        let layer_name = format!("{layer_id}/layer.tar");
        let manifest = json!([{"Config": description_name, "RepoTags": [self.name], "Layers": [layer_name]}]);

        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, &description_name, &description, 0o644)?;
        append(&mut tar, &layer_name, self.layer, 0o644)?;
        append(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?, 0o644)?;
        Ok(tar.into_inner()?)
    }
}

/// Go's name of this machine's architecture.
pub(crate) fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Appends a file of root's.
pub(crate) fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, data: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(data.len().try_into()?);
    Ok(tar.append_data(&mut header, path, data)?)
}

/// The header of an empty entry of root's, with the time 0.
pub(crate) fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// The SHA-256 sum in hexadecimal digits.
pub(crate) fn sha256(data: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(data).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;

    use super::{Image, sha256};

    #[test]
    fn archive_names_parts_by_digest() {
        let image = Image {
            name: "localhost/lab/x:1",
            architecture: "amd64",
            created: None,
            created_by: "a test",
            config: json!({"Entrypoint": ["/bin/sleep"]}),
            layer: b"not really a layer",
        };
        let archive = image.archive().expect("an archive");
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
        assert_eq!(names[1], format!("{}/layer.tar", sha256(image.layer)));
        assert!(manifest.contains(&names[0]) && manifest.contains("localhost/lab/x:1"));
    }
}
