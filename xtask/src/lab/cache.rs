//! What is kept between labs: binaries that took minutes to build or had to be fetched.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// `$XDG_CACHE_HOME/execpath-lab`, or `~/.cache/execpath-lab`.
pub(super) fn dir() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = match cache {
        Some(dir) => dir,
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("execpath-lab"))
}
