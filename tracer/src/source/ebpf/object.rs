//! The BPF object: the one that is built in, or another one for tests.

use std::{borrow::Cow, env, fs, io, path::PathBuf};

/// Names a file to load instead of the built-in object, so that tests test the freshly built one.
pub const OBJECT_VARIABLE: &str = "EXECPATH_BPF";

/// aya reads ELF headers in place: they must be aligned.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

static BUILT_IN: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../bpf/execpath.bpf.o"));

/// The object's bytes.
///
/// # Errors
/// When the file that the environment names cannot be read.
pub(super) fn bytes() -> Result<Cow<'static, [u8]>, (PathBuf, io::Error)> {
    match env::var_os(OBJECT_VARIABLE) {
        Some(path) => fs::read(&path).map(Cow::Owned).map_err(|error| (path.into(), error)),
        None => Ok(Cow::Borrowed(&BUILT_IN.0)),
    }
}
