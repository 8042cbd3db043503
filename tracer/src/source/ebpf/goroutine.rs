//! Offsets of the ids of a goroutine and of its creator in Go's runtime, by version.
//!
//! Both ids are fields of `runtime.g` (src/runtime/runtime2.go), which is no interface: every version may move them.
//! `cargo xtask go-offsets` builds a program with each version and compares this table with the program's debugging information. The
//! kernel tests compare ids with those that a program prints. For an unlisted version a goroutine is its `g` alone, without a creator.

/// Offsets of fields of `runtime.g` in bytes. They are equal on amd64 and arm64, because all fields have the same width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Go 1.`minor`.
    pub(crate) minor: u16,
    /// Offset of `goid`, which distinguishes goroutines that use one `g` after another.
    pub(crate) goid: u16,
    /// Offset of `parentGoid`; `None` before Go 1.21.
    pub(crate) parent_goid: Option<u16>,
}

const fn since_1_21(minor: u16, goid: u16, parent_goid: u16) -> Layout {
    Layout { minor, goid, parent_goid: Some(parent_goid) }
}

/// Layouts from Go 1.17 on, the first version that keeps `g` in a register, by which a goroutine is found. 1.19 was measured with
/// Debian's build, and 1.21 to 1.27 by `cargo xtask go-offsets`. 1.17, 1.18 and 1.20 have the same fields before `goid` as 1.19.
const LAYOUTS: [Layout; 11] = [
    Layout { minor: 17, goid: 152, parent_goid: None },
    Layout { minor: 18, goid: 152, parent_goid: None },
    Layout { minor: 19, goid: 152, parent_goid: None },
    Layout { minor: 20, goid: 152, parent_goid: None },
    since_1_21(21, 152, 272),
    since_1_21(22, 152, 272),
    since_1_21(23, 160, 280),
    since_1_21(24, 160, 280),
    since_1_21(25, 152, 272),
    since_1_21(26, 152, 280),
    since_1_21(27, 152, 280),
];

/// Layout of a Go version such as `go1.26.6` or `go1.22.10 X:boringcrypto`; `None` for an unlisted one.
pub(crate) fn layout(version: &str) -> Option<Layout> {
    let minor = version.strip_prefix("go1.")?.split(|letter: char| !letter.is_ascii_digit()).next()?;
    let minor: u16 = minor.parse().ok()?;
    LAYOUTS.into_iter().find(|layout| layout.minor == minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_found_by_minor_version() {
        let parent = |version| layout(version).map(|layout| (layout.goid, layout.parent_goid));
        assert_eq!(parent("go1.19.8"), Some((152, None)));
        assert_eq!(parent("go1.23"), Some((160, Some(280))));
        assert_eq!(parent("go1.25rc1"), Some((152, Some(272))));
        assert_eq!(parent("go1.26.6 X:nodwarf5"), Some((152, Some(280))));
        for unknown in ["go1.16.15", "go1.28", "go1.", "go1.260", "devel go1.27-abc", ""] {
            assert_eq!(parent(unknown), None, "{unknown}");
        }
    }
}
