//! The cache of binaries that took minutes to build or were downloaded.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// `$XDG_CACHE_HOME/NAME`, or `~/.cache/NAME`.
pub(crate) fn dir(name: &str) -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = match cache {
        Some(dir) => dir,
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join(name))
}

/// Appends a suffix to a directory's name. `with_extension` would take the minor version for an extension.
pub(crate) fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::beside;

    #[test]
    fn minor_version_is_not_an_extension() {
        assert_eq!(beside(Path::new("/x/kube-1.20"), ".build"), Path::new("/x/kube-1.20.build"));
    }
}
