//! Cargo tasks of this repository.

use std::{env, process::Command};

/// A call of `cargo xtask`.
///
/// `cargo test` describes the package of the test in the environment. The call does not pass this on: build scripts that depend
/// on it, as ring's does, would run again, and their crates be compiled again.
#[must_use]
pub fn xtask(words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).arg("xtask").args(words);
    for (name, _) in env::vars_os() {
        let is_of_package = |name: &str| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_");
        if name.to_str().is_some_and(is_of_package) {
            command.env_remove(name);
        }
    }
    command
}
