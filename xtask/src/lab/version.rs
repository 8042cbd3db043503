//! Kubernetes versions: only major and minor matter to the lab.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// A version such as 1.20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Version {
    /// Kubernetes 1.x.
    pub(super) const fn one(minor: u32) -> Self {
        Self { major: 1, minor }
    }

    /// The first version in a text such as `Kubernetes v1.20.2` or `kubectl.1.27`.
    pub(super) fn find_in(text: &str) -> Option<Self> {
        text.split(|c: char| c.is_whitespace() || matches!(c, '/' | '-' | '_')).find_map(|word| {
            let digits = word.find(|c: char| c.is_ascii_digit())?;
            word.get(digits..)?.parse().ok()
        })
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    /// Parses `1.20`, `v1.20`, `v1.20.2`, `1.32.4-dispatcher`, `v1.33.0+k3s1`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("\"{text}\" is not a version such as 1.20");
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let number = |part: Option<&str>| -> Option<u32> {
            let part = part?;
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..digits)?.parse().ok()
        };
        let (major, minor) = (number(parts.next()), number(parts.next()));
        Ok(Self { major: major.with_context(wrong)?, minor: minor.with_context(wrong)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn version_is_parsed_in_all_spellings() {
        for text in ["1.20", "v1.20", "v1.20.2", "1.20.2-dirty", "v1.20.0+k3s1", "1.20+"] {
            assert_eq!(text.parse::<Version>().ok(), Some(Version::one(20)), "{text}");
        }
        for text in ["", "1", "v", "one.two", "kubectl"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn version_is_found_in_text() {
        assert_eq!(Version::find_in("Kubernetes v1.36.0\n"), Some(Version::one(36)));
        assert_eq!(Version::find_in("kubectl.1.27"), Some(Version::one(27)));
        assert_eq!(Version::find_in("kubectl-1.29.3"), Some(Version::one(29)));
        assert_eq!(Version::find_in("/x/kube-1.20"), Some(Version::one(20)));
        assert_eq!(Version::find_in("Kubernetes v0.0.0-master+faecb196815e2"), Some(Version { major: 0, minor: 0 }));
        assert_eq!(Version::find_in("kubectl"), None);
    }

    #[test]
    fn minor_versions_are_ordered_as_numbers() {
        assert!(Version::one(9) < Version::one(20));
    }
}
