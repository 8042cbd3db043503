//! The BPF object: the built-in one, or a file for tests.

use std::{env, fs, io, path::PathBuf};

use crate::confine;

/// Environment variable with the path of an object to load instead of the built-in one: tests load the freshly built object. Ignored if
/// the environment may be another user's ([`confine::is_environment_foreign`]).
pub const OBJECT_VARIABLE: &str = "EXECPATH_BPF";

/// The object, compressed to an eighth: `cargo xtask ebpf` writes it.
const BUILT_IN: &[u8] = include_bytes!("../../../bpf/execpath.bpf.o.zst");

/// Bytes of the object.
///
/// # Errors
/// When the file in [`OBJECT_VARIABLE`] cannot be read.
pub(super) fn bytes() -> Result<Vec<u8>, (PathBuf, io::Error)> {
    match env::var_os(OBJECT_VARIABLE) {
        Some(path) if !confine::is_environment_foreign() => {
            return fs::read(&path).map_err(|error| (path.into(), error));
        }
        Some(_) => {
            tracing::info!(
                "{OBJECT_VARIABLE} is ignored under sudo, and in programs with more rights than their caller"
            );
        }
        None => {}
    }
    zstd::decode_all(BUILT_IN).map_err(|error| ("the built-in object".into(), error))
}
