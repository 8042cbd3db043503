//! Where Go's runtime keeps the ids of a goroutine and of its creator, by version.
//!
//! They are fields of `runtime.g` (src/runtime/runtime2.go), which is no interface: each version has to be looked at.
//! `cargo xtask go-offsets` builds a program with each and compares this table with what its debugging information says;
//! the kernel tests compare ids with those that a program tells of itself. What is not listed is not known: then a goroutine is
//! its `g` alone, and has no creator.

/// Offsets of fields of `runtime.g`, in bytes. The same on amd64 and arm64: every field is as wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Go 1.`minor`.
    pub(crate) minor: u16,
    /// Of `goid`: tells a goroutine from a later one that uses the same `g`.
    pub(crate) goid: u16,
    /// Of `parentGoid`, since Go 1.21.
    pub(crate) parent_goid: Option<u16>,
}

const fn since_1_21(minor: u16, goid: u16, parent_goid: u16) -> Layout {
    Layout { minor, goid, parent_goid: Some(parent_goid) }
}

/// From Go 1.17 on, which keeps its `g` in a register: that is how a goroutine is found. 1.19 was measured with Debian's, and
/// 1.21 to 1.27 by `cargo xtask go-offsets`; 1.17, 1.18 and 1.20 have the same fields before `goid` as 1.19.
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

/// The layout of a program that calls its Go `go1.26.6`, `go1.22.10 X:boringcrypto` or the like.
pub(crate) fn layout(version: &str) -> Option<Layout> {
    let minor = version.strip_prefix("go1.")?.split(|letter: char| !letter.is_ascii_digit()).next()?;
    let minor: u16 = minor.parse().ok()?;
    LAYOUTS.into_iter().find(|layout| layout.minor == minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_by_its_minor_number_and_others_are_not() {
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
