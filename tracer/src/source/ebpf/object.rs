//! The BPF object: the built-in one, or a file for tests.

use std::{borrow::Cow, env, fs, io, path::PathBuf};

use crate::confine;

/// Environment variable with the path of an object to load instead of the built-in one: tests load the freshly built object. Ignored if
/// the environment may be another user's ([`confine::is_environment_foreign`]).
pub const OBJECT_VARIABLE: &str = "EXECPATH_BPF";

/// Aligns the object: aya reads ELF headers in place.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

static BUILT_IN: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../bpf/execpath.bpf.o"));

/// Bytes of the object.
///
/// # Errors
/// When the file in [`OBJECT_VARIABLE`] cannot be read.
pub(super) fn bytes() -> Result<Cow<'static, [u8]>, (PathBuf, io::Error)> {
    match env::var_os(OBJECT_VARIABLE) {
        Some(path) if !confine::is_environment_foreign() => {
            fs::read(&path).map(Cow::Owned).map_err(|error| (path.into(), error))
        }
        Some(_) => {
            tracing::info!(
                "{OBJECT_VARIABLE} is ignored under sudo, and in programs with more rights than their caller"
            );
            Ok(Cow::Borrowed(&BUILT_IN.0))
        }
        None => Ok(Cow::Borrowed(&BUILT_IN.0)),
    }
}
