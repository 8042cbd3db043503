//! Which processes listen on the sockets that clients of a runtime or a shim reach.
//!
//! The name of a socket proves nothing: any process binds any name in a mount namespace of its own. A process counts where it is
//! root in the initial user namespace, and where the file at a path of the path's daemons is its socket's now:
//!
//! * in the mount namespace of the host's first process, or in the tracer's own;
//! * in the process's own mount namespace, where the process may mount (CAP_SYS_ADMIN in the initial user namespace): a node in
//!   a container. A process that may mount can change the host's paths as well.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rustix::fs::Stat;

use super::{
    MAX_ROOTS,
    container::Root,
    procfs::{self, Proc, Rights},
    sock_diag::{SocketFile, UnixSocket},
};
use crate::model::{Listener, Places, RawText, is_shim_socket};

/// File systems whose stat(2) gives another device than the kernel has: btrfs, overlayfs (include/uapi/linux/magic.h).
const OTHER_DEVICES: [i64; 2] = [0x9123_683e, 0x794c_7630];
/// A line of `mountinfo` has some 200 bytes.
const MAX_MOUNTINFO_BYTES: usize = 4 << 20;

/// Verifies the listeners of one look. The files at the paths of runtimes are read once for each mount namespace.
pub(super) struct Verifier<'a> {
    proc: &'a Proc,
    places: &'a Places,
    host: Option<u32>,
    /// The host's mount namespace, and the tracer's own.
    shared: Vec<View>,
    own: BTreeMap<u32, View>,
    rights: BTreeMap<u32, Rights>,
}

/// What the paths of one mount namespace lead to.
struct View {
    root: Root,
    /// A process in this mount namespace.
    mountinfo: PathBuf,
    runtimes: BTreeMap<SocketFile, RawText>,
}

impl View {
    fn open(root: &Path, mountinfo: PathBuf, places: &Places) -> Option<Self> {
        let mut view = Self { root: Root::open(root)?, mountinfo, runtimes: BTreeMap::new() };
        for path in places.runtime_sockets() {
            if let Some(file) = view.file(path) {
                view.runtimes.entry(file).or_insert_with(|| path.clone());
            }
        }
        Some(view)
    }

    /// The socket's file at that path.
    fn file(&self, path: &RawText) -> Option<SocketFile> {
        let (stat, filesystem, mount) = self.root.socket(path.as_str()?)?;
        let device = if OTHER_DEVICES.contains(&filesystem) {
            self.device_of(mount?)?
        } else {
            procfs::kernel_device(stat.st_dev)
        };
        Some(SocketFile { device, inode: low(&stat) })
    }

    /// The device of a mount, as the kernel has it (proc(5): `mountinfo`, third field).
    fn device_of(&self, mount: u64) -> Option<u32> {
        let text = procfs::read_path(&self.mountinfo, MAX_MOUNTINFO_BYTES)?;
        text.split(|byte| *byte == b'\n').find_map(|line| {
            let mut words = std::str::from_utf8(line).ok()?.split(' ');
            let (id, device) = (words.next()?, words.nth(1)?);
            let (major, minor) = device.split_once(':')?;
            (id.parse() == Ok(mount)).then_some(major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?)
        })
    }
}

/// unix_diag tells the lower half.
#[expect(clippy::cast_possible_truncation, reason = "as the kernel cuts the number")]
const fn low(stat: &Stat) -> u32 {
    stat.st_ino as u32
}

impl<'a> Verifier<'a> {
    pub(super) fn new(proc: &'a Proc, places: &'a Places) -> Self {
        let host = proc.namespace(1, "mnt");
        let own = procfs::namespace_of(Path::new("/proc/self/ns/mnt"));
        let mut shared = Vec::new();
        shared.extend(View::open(&proc.path(1, "root"), proc.path(1, "mountinfo"), places));
        if host.is_none() || own != host {
            shared.extend(View::open(Path::new("/"), PathBuf::from("/proc/self/mountinfo"), places));
        }
        Self { proc, places, host, shared, own: BTreeMap::new(), rights: BTreeMap::new() }
    }

    /// What holds of that process and its listening socket. `None` where neither the name nor the file is a daemon's.
    pub(super) fn listener(&mut self, pid: u32, socket: &UnixSocket) -> Option<Listener> {
        let name = socket.path.as_ref()?;
        let at = self.reached(pid, socket, name);
        let is_daemons = self.places.is_runtime_socket(name) || is_shim_socket(name);
        (is_daemons || at.is_some()).then(|| Listener { root: self.rights(pid) >= Rights::Root, at })
    }

    /// The path at which clients reach the socket.
    fn reached(&mut self, pid: u32, socket: &UnixSocket, name: &RawText) -> Option<RawText> {
        let is_shim = is_shim_socket(name);
        if name.as_bytes().first() == Some(&0) {
            // An abstract name has no file, and anybody in the network namespace may bind it.
            return (is_shim && self.rights(pid) == Rights::Admin).then(|| name.clone());
        }
        let file = socket.file?;
        let in_view = |view: &View| {
            let is_there = || is_shim && view.file(name) == Some(file);
            view.runtimes.get(&file).cloned().or_else(|| is_there().then(|| name.clone()))
        };
        if let Some(at) = self.shared.iter().find_map(in_view) {
            return Some(at);
        }
        if self.rights(pid) < Rights::Admin {
            return None;
        }
        self.view_of(pid).and_then(in_view)
    }

    fn rights(&mut self, pid: u32) -> Rights {
        let proc = self.proc;
        *self.rights.entry(pid).or_insert_with(|| proc.rights(pid))
    }

    /// The process's own mount namespace, where that is another one than the host's.
    fn view_of(&mut self, pid: u32) -> Option<&View> {
        let mntns = self.proc.namespace(pid, "mnt").filter(|mntns| Some(*mntns) != self.host)?;
        if !self.own.contains_key(&mntns) && self.own.len() < MAX_ROOTS {
            let view = View::open(&self.proc.path(pid, "root"), self.proc.path(pid, "mountinfo"), self.places)?;
            // Asked after: another process may have the pid by now.
            if self.proc.namespace(pid, "mnt") == Some(mntns) {
                self.own.insert(mntns, view);
            }
        }
        self.own.get(&mntns)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use super::*;
    use crate::{model::SocketId, source::snapshot::sock_diag};

    fn socket_of(listener: &UnixListener) -> UnixSocket {
        let netns = PathBuf::from("/proc/self/ns/net");
        let here = [(procfs::namespace_of(&netns).unwrap(), vec![netns])].into();
        sock_diag::unix_listeners(&here).unix.remove(&rustix::fs::fstat(listener).unwrap().st_ino).unwrap()
    }

    #[test]
    fn a_socket_is_found_by_its_file_after_a_rename() {
        let dir = tempfile::tempdir().unwrap();
        let (bound, path) = (dir.path().join("4711"), dir.path().join("cri-dockerd.sock"));
        let listener = UnixListener::bind(&bound).unwrap();
        fs::rename(&bound, &path).unwrap();
        let places = Places::new(None, None, path.to_str());
        let proc = Proc::new("/proc");
        let socket = socket_of(&listener);
        assert_eq!(socket.path, Some(bound.to_str().unwrap().into()), "the kernel keeps the first name");
        let found = Verifier::new(&proc, &places).listener(std::process::id(), &socket).unwrap();
        assert_eq!(found.at, Some(path.to_str().unwrap().into()));
        assert_eq!(found.root, proc.rights(std::process::id()) >= Rights::Root);
    }

    #[test]
    fn a_socket_whose_path_leads_elsewhere_is_not_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("containerd.sock");
        let places = Places::new(None, None, path.to_str());
        let proc = Proc::new("/proc");
        let first = UnixListener::bind(&path).unwrap();
        let reached = |listener: &UnixListener| {
            let found = Verifier::new(&proc, &places).listener(std::process::id(), &socket_of(listener));
            found.expect("its name is a runtime's").at
        };
        assert!(reached(&first).is_some());
        fs::remove_file(&path).unwrap();
        assert_eq!(reached(&first), None, "no file is there");
        let second = UnixListener::bind(&path).unwrap();
        assert_eq!((reached(&first), reached(&second)), (None, Some(path.to_str().unwrap().into())));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(reached(&second), None, "a plain file is there");
        fs::remove_file(&path).unwrap();
        symlink("/dev/null", &path).unwrap();
        assert_eq!(reached(&second), None, "a link is there");
    }

    #[test]
    fn names_of_nobody_on_the_path_are_of_no_interest() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("plain.sock")).unwrap();
        let (proc, places) = (Proc::new("/proc"), Places::default());
        assert_eq!(Verifier::new(&proc, &places).listener(std::process::id(), &socket_of(&listener)), None);
    }

    #[test]
    fn an_abstract_name_of_a_shim_needs_the_rights_of_a_runtime() {
        let proc = Proc::new("/proc");
        let places = Places::default();
        let name = RawText::from(format!("\0/containerd-shim/{}.sock", "0".repeat(64)).as_str());
        let path = Some(name.clone());
        let socket = UnixSocket { id: SocketId::new(0, 1), path, file: None, peer: None, listening: true };
        let mut verifier = Verifier::new(&proc, &places);
        for (rights, at) in [(Rights::User, None), (Rights::Root, None), (Rights::Admin, Some(name))] {
            verifier.rights.insert(1, rights);
            let found = verifier.listener(1, &socket).unwrap();
            assert_eq!(found, Listener { root: rights >= Rights::Root, at });
        }
    }
}
