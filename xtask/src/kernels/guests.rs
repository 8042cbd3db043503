//! The guests of `cargo xtask kernels`, as data.

/// An architecture of guests and of artefacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arch {
    X86_64,
    Arm64,
}

impl Arch {
    /// Debian's name.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Go's name.
    pub(crate) const fn go(self) -> &'static str {
        self.debian()
    }

    /// The name in guests' names and in documents.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// Debian's directory of libraries.
    pub(crate) const fn triplet(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Rust's target.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }
}

/// A kernel of Debian to boot.
#[derive(Debug)]
pub(super) struct Guest {
    /// Name for `--only`.
    pub(super) name: &'static str,
    pub(super) arch: Arch,
    /// First and last version. The newest packaged kernel between the two boots.
    pub(super) versions: [(u32, u32); 2],
    /// Suites that may have the package. The first suite that has one is used.
    pub(super) suites: &'static [&'static str],
    /// True if CI boots this guest; `--all` boots every guest.
    pub(super) in_ci: bool,
}

const fn guest(name: &'static str, arch: Arch, versions: [(u32, u32); 2], suites: &'static [&'static str]) -> Guest {
    Guest { name, arch, versions, suites, in_ci: false }
}

const fn in_ci(guest: Guest) -> Guest {
    Guest { in_ci: true, ..guest }
}

/// No version of a package is named: packages rotate.
pub(super) const GUESTS: &[Guest] = &[
    guest("5.10-x86_64", Arch::X86_64, [(5, 10), (5, 10)], &["bullseye"]),
    in_ci(guest("6.1-x86_64", Arch::X86_64, [(6, 1), (6, 1)], &["bookworm"])),
    in_ci(guest("6.12-x86_64", Arch::X86_64, [(6, 12), (6, 12)], &["trixie"])),
    guest("late-6-x86_64", Arch::X86_64, [(6, 16), (6, 99)], &["trixie-backports", "sid"]),
    guest("7-x86_64", Arch::X86_64, [(7, 0), (7, 99)], &["trixie-backports", "sid"]),
    guest("6.1-arm64", Arch::Arm64, [(6, 1), (6, 1)], &["bookworm"]),
    guest("6.12-arm64", Arch::Arm64, [(6, 12), (6, 12)], &["trixie"]),
];

/// Returns the version of a kernel's package, such as `linux-image-6.12.107+deb13-cloud-amd64`.
pub(super) fn version(package: &str, arch: Arch) -> Option<Vec<u32>> {
    let release = package.strip_prefix("linux-image-")?.strip_suffix(&format!("-cloud-{}", arch.debian()))?;
    let numbers = release.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().ok()).collect()
}

impl Guest {
    /// Selects the newest of these packages within the guest's versions.
    pub(super) fn newest<'a>(&self, packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let [first, last] = self.versions;
        let fits = |version: &[u32]| {
            let [major, minor, ..] = *version else { return false };
            (first..=last).contains(&(major, minor))
        };
        let versions = packages.filter_map(|package| Some((version(package, self.arch)?, package)));
        Some(versions.filter(|(version, _)| fits(version)).max()?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::{GUESTS, Guest};

    fn guest(name: &str) -> &'static Guest {
        GUESTS.iter().find(|guest| guest.name == name).expect("a guest")
    }

    #[test]
    fn newest_kernel_within_versions_is_selected() {
        let packages = [
            "linux-image-6.16.3+deb13-cloud-amd64",
            "linux-image-6.19.9+deb13-cloud-amd64",
            "linux-image-6.19.14+deb13-cloud-amd64",
            "linux-image-7.0.10+deb13-cloud-amd64",
            "linux-image-6.19.15+deb13-cloud-amd64-unsigned",
            "linux-image-6.20.1+deb13-rt-amd64",
            "linux-image-cloud-amd64",
        ];
        assert_eq!(guest("late-6-x86_64").newest(packages.into_iter()), Some(packages[2]));
        assert_eq!(guest("7-x86_64").newest(packages.into_iter()), Some(packages[3]));
        assert_eq!(guest("6.1-x86_64").newest(packages.into_iter()), None);
        assert_eq!(guest("6.12-arm64").newest(packages.into_iter()), None);
    }

    #[test]
    fn abi_number_decides_between_equal_versions() {
        let packages = ["linux-image-6.1.0-50-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"];
        assert_eq!(guest("6.1-x86_64").newest(packages.into_iter()), Some(packages[0]));
    }
}
