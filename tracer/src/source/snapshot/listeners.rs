//! Verifies processes that listen on the sockets of runtimes and shims.
//!
//! The name of a socket proves nothing: any process binds any name in a mount namespace of its own. A listener counts if its process is
//! root in the initial user namespace, and if clients reach its socket: the file at a daemon's path is this socket's file now,
//!
//! * in the mount namespace of the host's first process, or in the tracer's own;
//! * or in the process's own mount namespace, if the process may mount (CAP_SYS_ADMIN in the initial user namespace): a node in
//!   a container. A process that may mount can change the host's paths as well.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rustix::fs::Stat;

use super::{
    container::Root,
    descriptors::{self, MAX_FDS, socket_inodes},
    facts::listening_unix,
    procfs::{self, Proc, Rights},
    sock_diag,
    sockets::{SocketFile, UnixSocket},
    view::{HostView, MAX_ROOTS},
};
use crate::{
    host_paths,
    model::{BootTime, Endpoints, Listener, Observation, RawText, is_shim_socket},
};

/// File systems whose stat(2) returns another device than the kernel uses: btrfs, overlayfs (include/uapi/linux/magic.h).
const OTHER_DEVICES: [i64; 2] = [0x9123_683e, 0x794c_7630];
/// Largest `mountinfo`. A line has some 200 bytes.
const MAX_MOUNTINFO_BYTES: usize = 4 << 20;

/// What the process that has this pid listens on, if the name or the file of a socket is a daemon's.
pub(super) fn report(view: &mut HostView, pid: u32, now: BootTime) -> Vec<Observation> {
    let Some((key, info)) = view.proc.describe(pid) else { return Vec::new() };
    let Some(netns) = info.netns.filter(|_| !is_activator(pid, &info.comm)) else { return Vec::new() };
    let files = descriptors::open_files(&view.proc, pid, MAX_FDS).unwrap_or_default();
    let entry_paths = vec![view.proc.path(pid, "ns/net")];
    let listed = sock_diag::unix_listeners(&[(netns, entry_paths)].into());
    view.errors.extend(&listed.errors);
    let mut verifier = Verifier::new(&view.proc, &view.options.endpoints);
    let mut facts = Vec::new();
    for socket in socket_inodes(&files).iter().filter_map(|inode| listed.unix.get(inode)) {
        if let Some(listener) = verifier.listener(pid, socket) {
            facts.push(listening_unix(now, key, socket, listener));
        }
    }
    // Check the identity last: a pid that changed hands in between is noticed.
    if facts.is_empty() || !view.proc.is_still(key) {
        return Vec::new();
    }
    facts.insert(0, view.note_process(now, key, info));
    facts
}

/// True for systemd, the host's or one in a container: it holds listeners for services that it starts.
pub(super) fn is_activator(pid: u32, comm: &RawText) -> bool {
    pid == 1 || comm.as_bytes() == b"systemd"
}

/// Verifies the listeners of one scan. Files at the paths of runtimes are read once for each mount namespace.
pub(super) struct Verifier<'a> {
    proc: &'a Proc,
    endpoints: &'a Endpoints,
    /// The host's mount namespace: the first process's.
    host: Option<u32>,
    /// Files of the host's mount namespace, and of the tracer's own.
    shared: Vec<MountView>,
    /// Files of the mount namespaces of processes that may mount.
    own: BTreeMap<u32, MountView>,
    /// Rights of each process, by pid.
    rights: BTreeMap<u32, Rights>,
}

/// Files of one mount namespace.
struct MountView {
    root: Root,
    /// `mountinfo` of a process in this mount namespace.
    mountinfo: PathBuf,
    /// Paths of runtimes, by the socket's file that lies there.
    runtimes: BTreeMap<SocketFile, RawText>,
}

impl MountView {
    fn open(root: &Path, mountinfo: PathBuf, endpoints: &Endpoints) -> Option<Self> {
        let mut view = Self { root: Root::open(root)?, mountinfo, runtimes: BTreeMap::new() };
        for path in endpoints.runtime_sockets() {
            if let Some(file) = view.file(path) {
                view.runtimes.entry(file).or_insert_with(|| path.clone());
            }
        }
        Some(view)
    }

    /// The socket's file at this path.
    fn file(&self, path: &RawText) -> Option<SocketFile> {
        let (stat, filesystem, mount) = self.root.socket(path.as_str()?)?;
        let device = if OTHER_DEVICES.contains(&filesystem) {
            self.device_of(mount?)?
        } else {
            procfs::kernel_device(stat.st_dev)
        };
        Some(SocketFile { device, inode: low(&stat) })
    }

    /// Device of a mount, as the kernel encodes it (proc(5): `mountinfo`, third field).
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

/// Lower 32 bits of an inode number, as unix_diag lists it.
#[expect(clippy::cast_possible_truncation, reason = "as the kernel cuts the number")]
const fn low(stat: &Stat) -> u32 {
    stat.st_ino as u32
}

impl<'a> Verifier<'a> {
    pub(super) fn new(proc: &'a Proc, endpoints: &'a Endpoints) -> Self {
        let host = proc.namespace(1, "mnt");
        let own = procfs::namespace_of(Path::new("/proc/self/ns/mnt"));
        let mut shared = Vec::new();
        shared.extend(MountView::open(&proc.path(1, "root"), proc.path(1, "mountinfo"), endpoints));
        if host.is_none() || own != host {
            let root = &host_paths::get().root;
            shared.extend(MountView::open(root, PathBuf::from("/proc/self/mountinfo"), endpoints));
        }
        Self { proc, endpoints, host, shared, own: BTreeMap::new(), rights: BTreeMap::new() }
    }

    /// Verifies a process and its listening socket. `None` if neither the name nor the file is a daemon's.
    pub(super) fn listener(&mut self, pid: u32, socket: &UnixSocket) -> Option<Listener> {
        let name = socket.path.as_ref()?;
        let at = self.reached(pid, socket, name);
        let is_daemons = self.endpoints.is_runtime_socket(name) || is_shim_socket(name);
        (is_daemons || at.is_some()).then(|| Listener { root: self.rights(pid) >= Rights::Root, at })
    }

    /// The path at which clients reach the socket; `None` if they reach another one.
    fn reached(&mut self, pid: u32, socket: &UnixSocket, name: &RawText) -> Option<RawText> {
        let is_shim = is_shim_socket(name);
        if name.as_bytes().first() == Some(&0) {
            // An abstract name has no file, and any process of the network namespace may bind it.
            return (is_shim && self.rights(pid) == Rights::Admin).then(|| name.clone());
        }
        let file = socket.file?;
        // A runtime's socket counts by its file, whatever its name. A shim's name must lead to the file.
        let in_view = |view: &MountView| {
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

    /// Files of the process's own mount namespace, if it differs from the host's.
    fn view_of(&mut self, pid: u32) -> Option<&MountView> {
        let mntns = self.proc.namespace(pid, "mnt").filter(|mntns| Some(*mntns) != self.host)?;
        if !self.own.contains_key(&mntns) && self.own.len() < MAX_ROOTS {
            let view = MountView::open(&self.proc.path(pid, "root"), self.proc.path(pid, "mountinfo"), self.endpoints)?;
            // Check the namespace last: another process may have the pid by now.
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
    use crate::model::SocketId;

    fn socket_of(listener: &UnixListener) -> UnixSocket {
        let netns = PathBuf::from("/proc/self/ns/net");
        let here = [(procfs::namespace_of(&netns).unwrap(), vec![netns])].into();
        sock_diag::unix_listeners(&here).unix.remove(&rustix::fs::fstat(listener).unwrap().st_ino).unwrap()
    }

    #[test]
    fn renamed_socket_is_found_by_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let (bound, path) = (dir.path().join("4711"), dir.path().join("cri-dockerd.sock"));
        let listener = UnixListener::bind(&bound).unwrap();
        fs::rename(&bound, &path).unwrap();
        let endpoints = Endpoints::new(None, None, path.to_str());
        let proc = Proc::new("/proc");
        let socket = socket_of(&listener);
        assert_eq!(socket.path, Some(bound.to_str().unwrap().into()), "the kernel keeps the first name");
        let found = Verifier::new(&proc, &endpoints).listener(std::process::id(), &socket).unwrap();
        assert_eq!(found.at, Some(path.to_str().unwrap().into()));
        assert_eq!(found.root, proc.rights(std::process::id()) >= Rights::Root);
    }

    #[test]
    fn path_that_leads_elsewhere_reaches_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("containerd.sock");
        let endpoints = Endpoints::new(None, None, path.to_str());
        let proc = Proc::new("/proc");
        let first = UnixListener::bind(&path).unwrap();
        let reached = |listener: &UnixListener| {
            let found = Verifier::new(&proc, &endpoints).listener(std::process::id(), &socket_of(listener));
            found.expect("the name is a runtime's").at
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
    fn listener_off_the_path_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("plain.sock")).unwrap();
        let (proc, endpoints) = (Proc::new("/proc"), Endpoints::default());
        assert_eq!(Verifier::new(&proc, &endpoints).listener(std::process::id(), &socket_of(&listener)), None);
    }

    #[test]
    fn abstract_shim_name_needs_rights_of_a_runtime() {
        let proc = Proc::new("/proc");
        let endpoints = Endpoints::default();
        let name = RawText::from(format!("\0/containerd-shim/{}.sock", "0".repeat(64)).as_str());
        let path = Some(name.clone());
        let socket = UnixSocket { id: SocketId::new(0, 1), path, file: None, peer: None, listening: true };
        let mut verifier = Verifier::new(&proc, &endpoints);
        for (rights, at) in [(Rights::User, None), (Rights::Root, None), (Rights::Admin, Some(name))] {
            verifier.rights.insert(1, rights);
            let found = verifier.listener(1, &socket).unwrap();
            assert_eq!(found, Listener { root: rights >= Rights::Root, at });
        }
    }
}
