//! Places where this process finds the host's files: its root, `/proc` and `/sys`. A container may have them elsewhere.
//!
//! They are properties of the process, like its working directory: the command line sets them once, before anything is read. Without a
//! call of [`set`] they are the usual ones.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::fs::{FsWord, statfs};

/// Magic numbers of file systems (include/uapi/linux/magic.h: PROC_SUPER_MAGIC, SYSFS_MAGIC).
const PROC: FsWord = 0x9fa0;
const SYS: FsWord = 0x6265_6572;

/// Places of the host's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPaths {
    /// Root directory of the host.
    pub root: PathBuf,
    /// A procfs that lists the host's processes.
    pub proc: PathBuf,
    /// A sysfs of the host.
    pub sys: PathBuf,
    /// File with the kernel's types; `None`: the kernel's own, below `sys`.
    pub btf: Option<PathBuf>,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self { root: "/".into(), proc: "/proc".into(), sys: "/sys".into(), btf: None }
    }
}

/// Why a place cannot be used.
#[derive(Debug)]
pub enum PathError {
    /// The directory or file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The directory is no file system of this name.
    Other(PathBuf, &'static str),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Other(path, name) => write!(f, "{} is no {name}", path.display()),
        }
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::Other(..) => None,
        }
    }
}

impl HostPaths {
    /// Places below a root directory of the host.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), proc: root.join("proc"), sys: root.join("sys"), btf: None }
    }

    /// Checks that each place is what it should be.
    ///
    /// # Errors
    /// When a directory does not exist or is another file system, or the file with the types cannot be read.
    pub fn check(&self) -> Result<(), PathError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |error| PathError::Unreadable(path, error)
        };
        fs::read_dir(&self.root).map_err(unreadable(&self.root))?;
        for (path, magic, name) in [(&self.proc, PROC, "procfs"), (&self.sys, SYS, "sysfs")] {
            let found = statfs(path).map_err(|error| unreadable(path)(error.into()))?;
            if found.f_type != magic {
                return Err(PathError::Other(path.clone(), name));
            }
        }
        if let Some(file) = &self.btf {
            fs::File::open(file).map_err(unreadable(file))?;
        }
        Ok(())
    }

    /// A file of the host, by its absolute path there.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// File with the kernel's types.
    #[must_use]
    pub fn btf_file(&self) -> PathBuf {
        self.btf.clone().unwrap_or_else(|| self.sys.join("kernel/btf/vmlinux"))
    }
}

static PATHS: OnceLock<HostPaths> = OnceLock::new();

/// Sets the places of this process. Returns false if they were set to others or used before; they stay then.
pub fn set(paths: HostPaths) -> bool {
    *PATHS.get_or_init(|| paths.clone()) == paths
}

/// The places of this process.
pub fn get() -> &'static HostPaths {
    PATHS.get_or_init(HostPaths::default)
}

/// Pids of this process: in the host's numbering, and in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPid {
    /// Pid in the pid namespace of the host's procfs, which is that of the probes.
    pub on_host: u32,
    /// True if both numberings are one. Otherwise a pid of the host names another process, or none, in system calls.
    pub is_shared: bool,
}

/// Pids of this process, by the host's procfs.
#[must_use]
pub fn own_pid() -> OwnPid {
    own_pid_in(&get().proc)
}

/// Pids of this process, by a procfs. Without one, those of its own numbering.
#[must_use]
pub fn own_pid_in(proc: &Path) -> OwnPid {
    let status = fs::read_to_string(proc.join("self/status")).unwrap_or_default();
    parse_own_pid(&status).unwrap_or(OwnPid { on_host: std::process::id(), is_shared: true })
}

/// Reads `Tgid:`, and `NStgid:`: the pid in each namespace from that of the procfs down to the process's own (proc(5)).
fn parse_own_pid(status: &str) -> Option<OwnPid> {
    let words = |field: &str| status.lines().find_map(|line| Some(line.strip_prefix(field)?.split_ascii_whitespace()));
    let on_host = words("Tgid:")?.next()?.parse().ok()?;
    Some(OwnPid { on_host, is_shared: words("NStgid:").is_none_or(|pids| pids.count() == 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_checked_by_file_system() {
        assert!(HostPaths::default().check().is_ok());
        let swapped = HostPaths { proc: "/sys".into(), ..HostPaths::default() };
        assert_eq!(swapped.check().unwrap_err().to_string(), "/sys is no procfs");
        let empty = tempfile::tempdir().unwrap();
        assert!(
            matches!(HostPaths::below(empty.path()).check(), Err(PathError::Unreadable(path, _)) if path.ends_with("proc"))
        );
        let no_types = HostPaths { btf: Some("/nonexistent".into()), ..HostPaths::default() };
        assert!(matches!(no_types.check(), Err(PathError::Unreadable(..))));
    }

    #[test]
    fn files_are_below_the_root() {
        let paths = HostPaths::below(Path::new("/host"));
        assert_eq!(paths.file("/run/netns"), Path::new("/host/run/netns"));
        assert_eq!(paths.btf_file(), Path::new("/host/sys/kernel/btf/vmlinux"));
        assert_eq!(HostPaths::default().file("/run/netns"), Path::new("/run/netns"));
    }

    #[test]
    fn own_pid_has_two_numberings_in_a_namespace() {
        let pid = |status| parse_own_pid(status);
        assert_eq!(pid("Tgid:\t70\nNStgid:\t70\n"), Some(OwnPid { on_host: 70, is_shared: true }));
        assert_eq!(pid("Tgid:\t70\nNStgid:\t70\t1\n"), Some(OwnPid { on_host: 70, is_shared: false }));
        assert_eq!(pid("Tgid:\t70\n"), Some(OwnPid { on_host: 70, is_shared: true }), "no CONFIG_PID_NS");
        assert_eq!((pid(""), pid("Tgid:\tx\n")), (None, None));
        assert_eq!(own_pid().on_host, std::process::id());
    }
}
