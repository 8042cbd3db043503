//! Layout of the demo's folder. The sandbox creates and removes it; its layout follows that of a node's runtime.

use std::{
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::clock;

/// Environment variable with the actors' folder.
pub(super) const VARIABLE: &str = "EXECPATH_DEMO";

/// Longest path of a unix socket (include/uapi/linux/un.h: UNIX_PATH_MAX, with its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// Attempts to find an unused name for the folder.
const TRIES: u32 = 8;

/// The folder of one demo.
#[derive(Clone, Debug)]
pub(super) struct DemoDir(PathBuf);

impl DemoDir {
    /// The folder of a running demo, for an actor.
    pub(super) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Creates a new folder, accessible to its owner only.
    pub(super) fn create() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let fits = |folder: &PathBuf| Self(folder.join("execpath-demo-012345")).fits();
        let parent = Some(std::env::temp_dir()).filter(fits).unwrap_or_else(|| PathBuf::from("/tmp"));
        let mut created = Err(io::ErrorKind::AlreadyExists.into());
        for number in 0..TRIES {
            let unique = hash(&format!("{} {} {number}", std::process::id(), clock::now().0));
            let dir = Self(parent.join(format!("execpath-demo-{}", &unique[..6])));
            let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.0.display()));
            created = std::fs::DirBuilder::new().mode(0o700).create(&dir.0).map_err(with_path).map(|()| dir.clone());
            if created.as_ref().err().is_none_or(|error| error.kind() != io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        created
    }

    fn fits(&self) -> bool {
        let longest = self.shim_socket();
        longest.len() <= MAX_SOCKET_PATH
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    fn join(&self, rest: &str) -> PathBuf {
        self.0.join(rest)
    }

    /// Link to the binary under an actor's name, which `ps` shows.
    pub(super) fn actor(&self, name: &str) -> PathBuf {
        self.join("bin").join(name)
    }

    /// Socket of the runtime for the kubelet.
    pub(super) fn runtime_socket(&self) -> String {
        self.join("containerd/containerd.sock").to_string_lossy().into_owned()
    }

    /// Socket of the shim for the runtime, in containerd's folder but with a shorter name.
    pub(super) fn shim_socket(&self) -> String {
        self.join("containerd/s").join(&self.container()[..16]).to_string_lossy().into_owned()
    }

    /// Folder of the container bundles.
    pub(super) fn bundles(&self) -> String {
        self.join("io.containerd.runtime.v2.task").to_string_lossy().into_owned()
    }

    /// Bundle of the demo's container.
    pub(super) fn bundle(&self) -> PathBuf {
        Path::new(&self.bundles()).join("demo").join(self.container())
    }

    /// File in which runc stores the pid.
    pub(super) fn pid_file(&self, exec: &str) -> PathBuf {
        self.bundle().join(format!("{exec}.pid"))
    }

    /// Process description for runc.
    pub(super) fn process_file(&self, exec: &str) -> PathBuf {
        self.join("runc").join(format!("process-{}", &exec[..10]))
    }

    /// State folder of runc.
    pub(super) fn runc_root(&self) -> PathBuf {
        self.join("runc")
    }

    /// Folder of an exec's FIFOs.
    pub(super) fn fifos(&self, number: u64) -> PathBuf {
        self.join("containers").join(self.container()).join("io").join(number.to_string())
    }

    /// Id of the container.
    pub(super) fn container(&self) -> String {
        hash(&format!("container {}", self.0.display()))
    }

    /// An id for an exec or a token.
    pub(super) fn id(&self, what: &str, number: u64) -> String {
        hash(&format!("{what} {number} {}", self.0.display()))
    }
}

/// 64 hexadecimal digits, the format of runtime ids.
fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
