//! Cgroups of tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A cgroup of version 1 or 2, removed on drop.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a cgroup with this controller; `None` if the kernel or the machine has none.
    pub(crate) fn make(controller: &str) -> Option<Self> {
        let unified = Path::new("/sys/fs/cgroup/cgroup.procs").exists();
        let top = if unified { PathBuf::from("/sys/fs/cgroup") } else { Path::new("/sys/fs/cgroup").join(controller) };
        let folder = top.join(format!("execpath-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        Some(Self(folder))
    }

    /// Writes a file of the cgroup. Returns false if the kernel refuses.
    pub(crate) fn write(&self, name: &str, text: &str) -> bool {
        fs::write(self.0.join(name), text).is_ok()
    }

    /// Number in a file of the cgroup.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes are gone: they are declared later, so dropped earlier.
        let _busy = fs::remove_dir(&self.0);
    }
}
