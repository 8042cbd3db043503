//! Files that the process may open from now on, by Landlock.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// Newest version of Landlock that is used. On an older kernel the crate leaves out what it lacks.
const NEWEST: ABI = ABI::V6;

/// Why files are not restricted.
#[derive(Debug)]
pub enum Refused {
    /// The kernel has no Landlock, or it is disabled (`lsm=` of the kernel's command line).
    Absent,
    /// The kernel refused the rules.
    Rules(RulesetError),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("this kernel has no Landlock, or it is disabled"),
            Self::Rules(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rules(error) => Some(error),
            Self::Absent => None,
        }
    }
}

/// Restricts this thread, and those that it starts, to reading the files `read` and to creating or replacing `written`. Files that are
/// open already, such as stdout, stay usable. The folder of a new file has to be writable as a whole: Landlock knows no names.
///
/// # Errors
/// When the kernel has no Landlock or refuses the rules.
pub(super) fn restrict(read: &[&Path], written: &[&Path]) -> Result<(), Refused> {
    apply(rules(read, written))
}

fn apply(rules: Result<RulesetCreated, RulesetError>) -> Result<(), Refused> {
    let outcome = rules.and_then(RulesetCreated::restrict_self).map_err(Refused::Rules)?;
    if outcome.ruleset == RulesetStatus::NotEnforced { Err(Refused::Absent) } else { Ok(()) }
}

/// Certificates of authorities, as openssl-probe finds them. Everybody may read them.
const AUTHORITIES: [&str; 6] = [
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/usr/share/ca-certificates",
];

/// As [`restrict`], with the certificates of authorities to read.
///
/// # Errors
/// As for [`restrict`].
pub(super) fn restrict_but_authorities(written: &[&Path]) -> Result<(), Refused> {
    let known = AUTHORITIES.map(Path::new);
    let rules = rules(&known, written).and_then(|rules| {
        known
            .into_iter()
            .filter_map(|path| PathFd::new(path).ok().filter(|_| path.is_dir()))
            .try_fold(rules, |rules, opened| rules.add_rule(PathBeneath::new(opened, AccessFs::ReadDir)))
    });
    apply(rules)
}

fn rules(read: &[&Path], written: &[&Path]) -> Result<RulesetCreated, RulesetError> {
    let reading: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let writing = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::Truncate;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let folders = written.iter().filter_map(|path| path.parent());
    // An empty parent is the current folder.
    let folders = folders.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let wanted = read.iter().map(|path| (*path, reading)).chain(folders.map(|folder| (folder, writing)));
    for (path, access) in wanted {
        // A missing file or folder needs no rule: opening it fails with the proper error.
        if let Ok(opened) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    Ok(rules)
}
