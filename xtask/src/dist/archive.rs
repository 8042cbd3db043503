//! The archive for people and for krew: binary, licences, manual pages, completions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};

use super::source::Source;

/// Files of the repository in the archive.
const TEXTS: [&str; 5] = ["LICENSE-APACHE", "LICENSE-GPL2", "LICENSE-MIT", "README.md", "CHANGELOG.md"];

/// Writes the archive and returns its path.
pub(super) fn write(source: &Source, binary: &Path, path: &Path) -> Result<PathBuf> {
    let mut files = vec![("execpath".to_owned(), binary.to_owned(), 0o755)];
    files.extend(TEXTS.map(|name| (name.to_owned(), source.root().join(name), 0o644)));
    for folder in ["completions", "man"] {
        for entry in fs::read_dir(source.generated().join(folder))? {
            let entry = entry?;
            files.push((format!("{folder}/{}", entry.file_name().to_string_lossy()), entry.path(), 0o644));
        }
    }
    // The order of a directory's entries differs between machines.
    files.sort();
    // Neither a time nor a name in the header of gzip.
    let gzip = GzBuilder::new().mtime(0).write(fs::File::create(path)?, Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for (name, from, mode) in files {
        let data = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_mtime(source.epoch());
        header.set_size(data.len().try_into()?);
        tar.append_data(&mut header, name, data.as_slice())?;
    }
    // kubectl asks the program of this name for completions of the plugin.
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_mode(0o777);
    link.set_mtime(source.epoch());
    link.set_size(0);
    tar.append_link(&mut link, "kubectl_complete-execpath", "execpath")?;
    tar.into_inner()?.finish()?;
    Ok(path.to_owned())
}
