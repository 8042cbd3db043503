//! Processes, as `/proc` shows them. The root is a parameter, so that tests can make up processes.
//!
//! Every read is bounded and every parser accepts any bytes, because a process chooses its name and arguments. A process that
//! vanishes in the middle is `None`, never an error.

use std::{
    fs,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    buffer::spare_capacity,
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{
    confine::helper,
    host_paths,
    model::{Ancestor, FileId, INITIAL_USERNS, ProcessInfo, RawText, TaskKey, is_starter_comm, parse_cgroup},
};

/// Major number of the slaves of Unix 98 terminals, the first of eight (include/uapi/linux/major.h: UNIX98_PTY_SLAVE_MAJOR).
pub(super) const PTY_SLAVES: std::ops::Range<u32> = 136..144;
/// Largest `kernel.pid_max` on 64 bits (include/linux/threads.h: PID_MAX_LIMIT).
const MAX_PROCESSES: usize = 4 << 20;
/// Arguments that a recording keeps: enough for runc's and kubectl's own.
const MAX_ARGS: usize = 64;
/// Bytes of all arguments, NULs included.
const MAX_ARG_BYTES: usize = 4096;
/// Largest file that is read whole. `stat` and `status` have about 3 KB; a cgroup path has at most 4096 bytes a hierarchy.
const MAX_FILE_BYTES: usize = 64 << 10;
/// Mark that the kernel appends to the path of a deleted or replaced file (fs/d_path.c).
pub(super) const DELETED: &[u8] = b" (deleted)";

/// Ancestors of a client that are reported: a login, its shell, sudo, a script or two.
const MAX_ANCESTORS: usize = 16;
/// Prefixes of `comm` of processes that log users in or start services, besides those that start containers
/// ([`is_starter_comm`]). The ancestors of such a process show nothing about a client.
const ORIGINS: [&[u8]; 9] = [b"sshd", b"login", b"systemd", b"init", b"cron", b"atd", b"gdm-", b"lightdm", b"sddm"];

/// Threads of a process whose children are listed. A shim has about ten threads.
const MAX_THREADS: usize = 256;

/// Largest `fdinfo` of an epoll instance: lines of some 80 bytes for 100,000 files.
const MAX_FDINFO_BYTES: usize = 8 << 20;
/// Largest `maps`: lines of some 100 bytes. The kernel's default for `vm.max_map_count` is 65,530.
const MAX_MAPS_BYTES: usize = 8 << 20;
/// First guess at the size of a file: `stat` and most others fit, and are read in one call.
const FILE_BYTES: usize = 4 << 10;

/// A file in an epoll instance, as of the time when it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EpollEntry {
    pub(super) fd: u32,
    /// Word that the process stored with the entry (`epoll_event.data`).
    pub(super) data: u64,
    pub(super) inode: u64,
}

/// Memory of a process, as ranges `(start, end)` in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mappings {
    /// Writable memory without a file behind it, such as heaps.
    pub(super) anonymous: Vec<(u64, u64)>,
    /// Mapped programs and libraries.
    pub(super) files: Vec<(u64, u64)>,
    /// Ranges of `files` that the process may change: the data of programs and libraries.
    pub(super) data: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    Anonymous,
    File,
    Data,
}

/// A mounted procfs.
pub(super) struct Proc {
    root: PathBuf,
    /// The root, opened, so that paths are relative; `None` if there is no procfs.
    folder: Option<OwnedFd>,
    /// Set if system calls number processes as this procfs does.
    has_own_pids: bool,
}

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    comm: RawText,
    /// State letter of proc(5); `?` for anything that is no letter.
    pub(super) state: char,
    pub(super) parent: u32,
    /// Process group.
    pub(super) group: u32,
    /// Foreground process group of the controlling terminal; `None` without a terminal.
    pub(super) foreground: Option<u32>,
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
    pub(super) threads: u32,
    /// Controlling terminal, as the kernel encodes devices for user space (include/linux/kdev_t.h: `new_encode_dev`).
    terminal: u32,
    start_ticks: u64,
}

impl Stat {
    /// Fields that stay equal while a process keeps its parent, program and terminal.
    fn lineage(&self) -> (&RawText, u32, u32, u64) {
        (&self.comm, self.parent, self.terminal, self.start_ticks)
    }
}

/// Fields of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Status {
    tgid: Option<u32>,
    uid: Option<u32>,
    effective_uid: Option<u32>,
    /// Effective capabilities, in the process's own user namespace.
    capabilities: u64,
}

/// Rights of a process on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rights {
    /// The process of another user, or a process in a user namespace of its own.
    #[default]
    User,
    /// Root in the initial user namespace without CAP_SYS_ADMIN, as in most containers.
    Root,
    /// Root that may mount, as every runtime must. Such a process can change the files behind the host's paths.
    Admin,
}

/// CAP_SYS_ADMIN (include/uapi/linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;

impl Proc {
    /// The procfs mounted at `root`.
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&root, flags, Mode::empty()).ok();
        let has_own_pids = host_paths::own_pid_in(&root).is_shared;
        Self { root, folder, has_own_pids }
    }

    /// The root, opened.
    pub(super) fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.folder.as_ref().map(AsFd::as_fd)
    }

    /// True if system calls of this process take the pids of this procfs. A container may see the host's procfs, and number
    /// processes itself.
    pub(super) const fn has_own_pids(&self) -> bool {
        self.has_own_pids
    }

    /// Path of a file of a process.
    pub(super) fn path(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(format!("{pid}/{name}"))
    }

    /// Pids of all processes, in order. The kernel does not list threads.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .take(MAX_PROCESSES)
            .filter_map(|entry| number(entry.ok()?.file_name().as_bytes()))
            .collect();
        pids.sort_unstable();
        pids
    }

    /// Identity of the process that has this pid now. `None` for the id of a thread, which has a folder that the kernel does
    /// not list.
    pub(super) fn key(&self, pid: u32) -> Option<TaskKey> {
        self.stat_and_status(pid).map(|(stat, _)| TaskKey::from_ticks(pid, stat.start_ticks))
    }

    /// True if the process still has its pid. `stat` is enough: the pid was found to be no thread's when the key was made.
    pub(super) fn is_still(&self, task: TaskKey) -> bool {
        let stat = self.read(task.tgid, "stat").and_then(|text| parse_stat(&text));
        stat.is_some_and(|stat| stat.start_ticks == task.start_ticks)
    }

    /// Name of the process that has this pid (`comm`).
    pub(super) fn comm(&self, pid: u32) -> Option<RawText> {
        Some(parse_stat(&self.read(pid, "stat")?)?.comm)
    }

    /// Rights of the process that has this pid.
    pub(super) fn rights(&self, pid: u32) -> Rights {
        let status = self.read(pid, "status").map(|text| parse_status(&text)).unwrap_or_default();
        let is_root = status.uid == Some(0) && status.effective_uid == Some(0);
        match (is_root && self.namespace(pid, "user") == Some(INITIAL_USERNS), status.capabilities & SYS_ADMIN != 0) {
            (false, _) => Rights::User,
            (true, false) => Rights::Root,
            (true, true) => Rights::Admin,
        }
    }

    fn stat_and_status(&self, pid: u32) -> Option<(Stat, Status)> {
        let stat = parse_stat(&self.read(pid, "stat")?)?;
        let status = parse_status(&self.read(pid, "status")?);
        (status.tgid == Some(pid)).then_some((stat, status))
    }

    /// Describes the process that has this pid, with its identity. The identity is read again at the end, so both belong to one
    /// process.
    pub(super) fn describe(&self, pid: u32) -> Option<(TaskKey, ProcessInfo)> {
        let (stat, status) = self.stat_and_status(pid)?;
        let (argv, argv_truncated) = parse_argv(&self.read_up_to(pid, "cmdline", MAX_ARG_BYTES + 1)?);
        let info = ProcessInfo {
            comm: stat.comm,
            argv,
            argv_truncated,
            exe: self.exe(pid),
            parent: (stat.parent != 0).then(|| self.key(stat.parent)).flatten(),
            uid: status.uid,
            login_uid: self
                .read(pid, "loginuid")
                .and_then(|text| number(text.trim_ascii()))
                .filter(|uid| *uid != u32::MAX),
            tty: terminal_name(stat.terminal),
            netns: self.namespace(pid, "net"),
            mntns: self.namespace(pid, "mnt"),
            userns: self.namespace(pid, "user"),
            cgroup: self.cgroup(pid),
            program: super::golang::program(&self.path(pid, "exe")),
            stdin: None,
            watched: None,
        };
        let key = TaskKey::from_ticks(pid, stat.start_ticks);
        let after = self.read(pid, "stat").and_then(|text| parse_stat(&text));
        let after = after.filter(|after| after.start_ticks == stat.start_ticks)?;
        // The kernel moves a process that has ended to the root cgroup (kernel/cgroup/cgroup.c: `cgroup_exit`).
        let cgroup = info.cgroup.filter(|_| !matches!(after.state, 'Z' | 'X'));
        Some((key, ProcessInfo { cgroup, ..info }))
    }

    /// Path of the program, without the kernel's mark for a deleted file.
    pub(super) fn exe(&self, pid: u32) -> Option<RawText> {
        self.link(pid, "exe").map(|exe| RawText::from(exe.strip_suffix(DELETED).unwrap_or(&exe)))
    }

    /// Path of the cgroup that names the container, else of the unified hierarchy.
    pub(super) fn cgroup(&self, pid: u32) -> Option<RawText> {
        self.read(pid, "cgroup").and_then(|text| choose_cgroup(&text))
    }

    /// Ancestors of a process, its parent first, up to a login or the start of a service. Each was the parent of the one before at one
    /// moment: the child is read again after its parent.
    pub(super) fn ancestors(&self, of: TaskKey) -> Option<Vec<Ancestor>> {
        let mut child = self.stat_and_status(of.tgid).filter(|(stat, _)| stat.start_ticks == of.start_ticks)?.0;
        let mut pid = of.tgid;
        let mut found = Vec::new();
        // The first process is an ancestor of every other one: leave it out.
        while child.parent > 1 && found.len() < MAX_ANCESTORS {
            let above = child.parent;
            let Some((stat, status)) = self.stat_and_status(above) else { break };
            if self.stat_and_status(pid).is_none_or(|(again, _)| again.lineage() != child.lineage()) {
                break;
            }
            let task = TaskKey::from_ticks(above, stat.start_ticks);
            let is_origin =
                ORIGINS.iter().any(|comm| stat.comm.as_bytes().starts_with(comm)) || is_starter_comm(&stat.comm);
            found.push(Ancestor { task, comm: stat.comm.clone(), uid: status.uid });
            if is_origin {
                break;
            }
            (pid, child) = (above, stat);
        }
        Some(found)
    }

    /// Children of a process, from the list of each thread (CONFIG_PROC_CHILDREN). A child may be missing while others come and go.
    pub(super) fn children(&self, pid: u32) -> Vec<u32> {
        let threads = fs::read_dir(self.path(pid, "task")).into_iter().flatten().take(MAX_THREADS);
        let tids = threads.filter_map(|entry| number::<u32>(entry.ok()?.file_name().as_bytes()));
        let lists = tids.filter_map(|tid| self.read(pid, &format!("task/{tid}/children")));
        let mut children: Vec<u32> =
            lists.flat_map(|list| list.split(u8::is_ascii_whitespace).filter_map(number).collect::<Vec<_>>()).collect();
        children.sort_unstable();
        children
    }

    /// Inode number of a namespace of the process: `net`, `mnt`, `pid` or `user`.
    pub(super) fn namespace(&self, pid: u32, kind: &str) -> Option<u32> {
        bracketed(&self.link(pid, &format!("ns/{kind}"))?, kind)
    }

    /// Entries of an epoll instance.
    pub(super) fn epoll_entries(&self, pid: u32, epoll: u32) -> Vec<EpollEntry> {
        let text = self.read_up_to(pid, &format!("fdinfo/{epoll}"), MAX_FDINFO_BYTES).unwrap_or_default();
        text.split(|byte| *byte == b'\n').filter_map(parse_epoll_entry).collect()
    }

    /// Mapped memory of the process.
    pub(super) fn mappings(&self, pid: u32) -> Mappings {
        let text = self.read_up_to(pid, "maps", MAX_MAPS_BYTES).unwrap_or_default();
        let mut mappings = Mappings::default();
        for (kind, range) in text.split(|byte| *byte == b'\n').filter_map(parse_mapping) {
            match kind {
                Mapping::Anonymous => mappings.anonymous.push(range),
                Mapping::File => mappings.files.push(range),
                Mapping::Data => {
                    mappings.files.push(range);
                    mappings.data.push(range);
                }
            }
        }
        mappings
    }

    /// Working directory of the process.
    pub(super) fn working_directory(&self, pid: u32) -> Option<PathBuf> {
        fs::read_link(self.path(pid, "cwd")).ok()
    }

    fn link(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        Some(rustix::fs::readlinkat(self.folder()?, format!("{pid}/{name}"), Vec::new()).ok()?.into_bytes())
    }

    /// Opens a path below the root for reading.
    pub(super) fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let folder = self.folder().ok_or(Errno::NOENT)?;
        rustix::fs::openat(folder, path, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// A file of a process, up to [`MAX_FILE_BYTES`].
    pub(super) fn read(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        self.read_up_to(pid, name, MAX_FILE_BYTES)
    }

    fn read_up_to(&self, pid: u32, name: &str, most: usize) -> Option<Vec<u8>> {
        let file = self.open(&format!("{pid}/{name}"), OFlags::empty()).ok()?;
        read_file(&file, most)
    }

    /// Functions on a thread's kernel stack. Only CAP_SYS_ADMIN may open the file (fs/proc/base.c: `proc_pid_stack`).
    pub(super) fn stack(&self, pid: u32, tid: u32) -> Option<Vec<u8>> {
        if !helper::is_running() {
            return self.read(pid, &format!("task/{tid}/stack"));
        }
        let thread = self.open(&format!("{pid}/task/{tid}"), OFlags::PATH | OFlags::DIRECTORY).ok()?;
        read_file(&helper::stack(thread.as_fd()).ok()?, MAX_FILE_BYTES)
    }
}

/// Content of an opened file, up to `most` bytes; `None` if its process is gone.
fn read_file(file: &OwnedFd, most: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FILE_BYTES.min(most));
    while bytes.len() < most {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len());
        }
        match rustix::io::read(file, spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            // The process is gone.
            Err(_) => return None,
        }
    }
    bytes.truncate(most);
    Some(bytes)
}

/// The first `most` bytes of a file.
pub(super) fn read_path(path: &Path, most: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).ok()?;
    fs::File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Inode number of the namespace behind a file.
pub(super) fn namespace_of(path: &Path) -> Option<u32> {
    u32::try_from(fs::metadata(path).ok()?.ino()).ok()
}

/// Converts a device number of stat(2) to the kernel's own encoding (include/linux/kdev_t.h: MKDEV).
pub(super) fn kernel_device(device: u64) -> u32 {
    rustix::fs::major(device) << 20 | rustix::fs::minor(device)
}

/// A decimal number and nothing else.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    if !text.first()?.is_ascii_digit() {
        return None; // `parse` takes a sign
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The value after `name`, in a file with lines of `name value`.
pub(super) fn after<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii)
}

/// The number in `kind:[number]`.
pub(super) fn bracketed<T: std::str::FromStr>(link: &[u8], kind: &str) -> Option<T> {
    number(link.strip_prefix(kind.as_bytes())?.strip_prefix(b":[")?.strip_suffix(b"]")?)
}

/// `tfd:       45 events: 8000201d data:     7f013f23a4b8  pos:0 ino:2c8846 sdev:9` (fs/eventpoll.c: `ep_show_fdinfo`).
fn parse_epoll_entry(line: &[u8]) -> Option<EpollEntry> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("tfd:")?;
    let after = |name: &str| line.split_once(name)?.1.split_ascii_whitespace().next();
    let hex = |name: &str| u64::from_str_radix(after(name)?, 16).ok();
    let fd = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(EpollEntry { fd, data: hex(" data:")?, inode: hex(" ino:")? })
}

/// `c000000000-c000800000 rw-p 00000000 00:00 0`, sometimes with a name such as `[anon: Go: heap]` (proc(5)).
fn parse_mapping(line: &[u8]) -> Option<(Mapping, (u64, u64))> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (range, rights, inode) = (words.next()?, words.next()?, words.nth(2)?);
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let is_anonymous = inode == "0" && words.next().is_none_or(|name| name.starts_with("[anon"));
    let kind = match (is_anonymous, inode) {
        (true, _) if rights.starts_with("rw") => Mapping::Anonymous,
        (false, inode) if inode != "0" && rights.starts_with("rw") => Mapping::Data,
        (false, inode) if inode != "0" && rights.starts_with('r') => Mapping::File,
        _ => return None,
    };
    (start < end).then_some((kind, (start, end)))
}

/// `pid (comm) state ppid …`; comm may hold spaces, parentheses and newlines, so its end is the last parenthesis.
pub(super) fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let fields = bytes.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let fields: Vec<&[u8]> = fields.take(22 - 2).collect();
    // Numbered as in proc(5).
    let field = |position: usize| fields.get(position - 3).copied();
    let state = char::from(*field(3)?.first()?);
    Some(Stat {
        comm: RawText::from(comm),
        state: if state.is_ascii_alphabetic() { state } else { '?' },
        parent: number(field(4)?)?,
        group: number(field(5)?)?,
        // -1 without a terminal.
        foreground: number(field(8)?),
        user_ticks: number(field(14)?)?,
        system_ticks: number(field(15)?)?,
        threads: number(field(20)?)?,
        terminal: signed(field(7)?)?,
        start_ticks: number(field(22)?)?,
    })
}

/// Bits of a number that the kernel prints with a sign.
fn signed(text: &[u8]) -> Option<u32> {
    let number: i32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(number.cast_unsigned())
}

/// Name of a terminal, as in `ps` (Documentation/admin-guide/devices.txt). `None` for drivers whose names do not follow from numbers.
fn terminal_name(device: u32) -> Option<String> {
    let device = FileId::from_stat(device.into(), 0).device;
    let (major, minor) = (device >> 20, device & 0xf_ffff);
    match (major, minor) {
        (4, 0..64) => Some(format!("tty{minor}")),
        (4, 64..) => Some(format!("ttyS{}", minor - 64)),
        (5, 1) => Some("console".to_owned()),
        (136..144, _) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (229, _) => Some(format!("hvc{minor}")),
        _ => None,
    }
}

/// Reads `Tgid:`, the real and the effective user of `Uid:`, and `CapEff:`. The kernel escapes newlines in `Name:`, so no process can
/// forge a line.
fn parse_status(bytes: &[u8]) -> Status {
    let mut status = Status::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match words.next() {
            Some(b"Tgid:") => status.tgid = words.next().and_then(number),
            Some(b"Uid:") => {
                status.uid = words.next().and_then(number);
                status.effective_uid = words.next().and_then(number);
            }
            Some(b"CapEff:") => {
                let mask = words.next().and_then(|word| std::str::from_utf8(word).ok());
                status.capabilities = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
            }
            _ => {}
        }
    }
    status
}

/// Arguments; true if there were more.
fn parse_argv(bytes: &[u8]) -> (Vec<RawText>, bool) {
    let cut = bytes.len() > MAX_ARG_BYTES;
    let bytes = bytes.get(..MAX_ARG_BYTES).unwrap_or(bytes);
    if bytes.is_empty() {
        return (Vec::new(), false);
    }
    // Each argument ends with NUL, unless the process has overwritten its arguments.
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let mut args = bytes.split(|byte| *byte == 0);
    let argv = args.by_ref().take(MAX_ARGS).map(RawText::from).collect();
    (argv, cut || args.next().is_some())
}

/// One path of `/proc/PID/cgroup`: of the hierarchy that names a container, else of the unified one, else of the first.
fn choose_cgroup(bytes: &[u8]) -> Option<RawText> {
    let lines: Vec<(&[u8], &[u8])> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (hierarchy, _controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some((hierarchy, path))
        })
        .collect();
    let names_container = |path: &&[u8]| std::str::from_utf8(path).ok().and_then(parse_cgroup).is_some();
    let path = lines
        .iter()
        .map(|(_, path)| *path)
        .find(names_container)
        .or_else(|| lines.iter().find(|(hierarchy, path)| *hierarchy == b"0" && *path != b"/").map(|(_, path)| *path))
        .or_else(|| lines.first().map(|(_, path)| *path))?;
    Some(RawText::from(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Writes a process into a made-up /proc.
    fn fake(root: &Path, pid: u32, comm: &[u8], tgid: u32, start: u64) {
        let dir = root.join(pid.to_string());
        fs::create_dir_all(dir.join("ns")).unwrap();
        fs::create_dir_all(dir.join("fd")).unwrap();
        let mut stat = format!("{pid} (").into_bytes();
        stat.extend_from_slice(comm);
        stat.extend_from_slice(format!(") S 1 {}{start} 0 0\n", "7 ".repeat(17)).as_bytes());
        fs::write(dir.join("stat"), stat).unwrap();
        fs::write(dir.join("status"), format!("Name:\tx\nTgid:\t{tgid}\nUid:\t1000\t0\t0\t0\n")).unwrap();
        fs::write(dir.join("cmdline"), "sh\0-c\0\0").unwrap();
        fs::write(dir.join("loginuid"), "4294967295").unwrap();
        fs::write(dir.join("cgroup"), "0::/user.slice\n").unwrap();
        symlink("net:[4026531840]", dir.join("ns/net")).unwrap();
        symlink("mnt:[4026531841]", dir.join("ns/mnt")).unwrap();
        symlink("/usr/bin/sh (deleted)", dir.join("exe")).unwrap();
        symlink("socket:[77]", dir.join("fd/3")).unwrap();
        symlink("socket:[x]", dir.join("fd/4")).unwrap();
        symlink("/dev/null", dir.join("fd/5")).unwrap();
    }

    #[test]
    fn describe_accepts_any_name_and_no_thread() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path(), 7, b") S 9 (\n\xff", 7, 4200);
        fake(root.path(), 8, b"sh", 7, 4200);
        fs::create_dir(root.path().join("self")).unwrap();
        fs::create_dir(root.path().join("9")).unwrap();
        let proc = Proc::new(root.path());
        assert_eq!(proc.pids(), [7, 8, 9]);
        let (key, info) = proc.describe(7).unwrap();
        assert_eq!(key, TaskKey::from_ticks(7, 4200));
        assert_eq!(info.comm.as_bytes(), b") S 9 (\n\xff");
        assert_eq!(info.argv, ["sh", "-c", ""].map(RawText::from));
        assert_eq!(info.exe, Some("/usr/bin/sh".into()));
        assert_eq!((info.uid, info.login_uid), (Some(1000), None));
        assert_eq!((info.netns, info.mntns), (Some(4_026_531_840), Some(4_026_531_841)));
        assert_eq!(info.cgroup, Some("/user.slice".into()));
        assert_eq!(info.parent, None, "pid 1 is not there");
        assert_eq!(proc.describe(8), None, "a thread's folder");
        assert_eq!(proc.describe(9), None, "gone in the middle");
        let sockets: Vec<u64> = crate::source::snapshot::descriptors::open_files(&proc, 7, 100)
            .unwrap()
            .iter()
            .filter_map(|file| file.socket())
            .collect();
        assert_eq!(sockets, [77]);
        assert!(proc.is_still(key) && !proc.is_still(TaskKey::from_ticks(7, 1)));
    }

    #[test]
    fn terminals_have_the_names_of_ps() {
        for (device, name) in [
            (0, None),
            (0x8803, Some("pts/3")),
            (0x10_8801, Some("pts/257")),
            (0x8901, Some("pts/257")),
            (0x0401, Some("tty1")),
            (0x0440, Some("ttyS0")),
            (0x0501, Some("console")),
            (0x0101, None),
            (u32::MAX, None),
        ] {
            assert_eq!(terminal_name(device).as_deref(), name, "{device:x}");
        }
        assert_eq!(signed(b"-1"), Some(u32::MAX));
        assert_eq!((signed(b"4294967296"), signed(b"")), (None, None));
    }

    #[test]
    fn ancestors_end_at_a_login() {
        let root = tempfile::tempdir().unwrap();
        let chain = |processes: &[(u32, &str, u32)]| {
            for (pid, comm, parent) in processes {
                let dir = root.path().join(pid.to_string());
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join("stat"), format!("{pid} ({comm}) S {parent} {}{pid} 0 0\n", "7 ".repeat(17)))
                    .unwrap();
                fs::write(dir.join("status"), format!("Tgid:\t{pid}\nUid:\t{}\n", pid * 10)).unwrap();
            }
        };
        chain(&[(2, "systemd", 1), (3, "sshd-session", 2), (4, "bash", 3), (5, "sudo", 4), (6, "kubectl", 5)]);
        let proc = Proc::new(root.path());
        let found = proc.ancestors(TaskKey::from_ticks(6, 6)).unwrap();
        let names: Vec<_> = found.iter().map(|above| above.comm.as_str().unwrap()).collect();
        assert_eq!(names, ["sudo", "bash", "sshd-session"]);
        assert_eq!((found[0].task, found[0].uid), (TaskKey::from_ticks(5, 5), Some(50)));
        assert_eq!(proc.ancestors(TaskKey::from_ticks(6, 7)), None, "another process of this pid");
        chain(&[(7, "a", 1), (8, "b", 9), (9, "c", 8)]);
        assert_eq!(proc.ancestors(TaskKey::from_ticks(7, 7)), Some(Vec::new()), "the first process is left out");
        assert_eq!(proc.ancestors(TaskKey::from_ticks(8, 8)).unwrap().len(), MAX_ANCESTORS, "parents in a circle");
        chain(&[(10, "d", 11)]);
        assert_eq!(proc.ancestors(TaskKey::from_ticks(10, 10)), Some(Vec::new()), "gone");
    }

    #[test]
    fn stat_of_any_bytes_never_panics() {
        for bytes in [
            &b""[..],
            b"1",
            b"1 (a",
            b")(",
            b"1 () ",
            b"1 (a) S",
            b"1 (a) S x 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 5",
            b"1 (a) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 99999999999999999999999",
            b"1 (a) S -1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 5",
            b"\xff\xff(\xff)\xff",
        ] {
            assert_eq!(parse_stat(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(parse_status(b"Tgid:\nUid:\tx\n\xff"), Status::default());
    }

    #[test]
    fn epoll_entry_has_number_data_and_inode() {
        let line = b"tfd:       45 events: 8000201d data:     7f013f23a4b8  pos:0 ino:2c8846 sdev:9";
        assert_eq!(parse_epoll_entry(line), Some(EpollEntry { fd: 45, data: 0x7f01_3f23_a4b8, inode: 0x2c_8846 }));
        let lines: [&[u8]; 5] =
            [b"pos:\t0", b"tfd: x data: 1 ino:1", b"tfd: 1 data: 1", b"tfd: -1 data: 1 ino:1", b"\xff"];
        assert!(lines.into_iter().all(|line| parse_epoll_entry(line).is_none()));
        // A tagged pointer may fill all 64 bits, and then there is no room before it.
        let line = b"tfd:        5 events:       19 data: ffffffffffffffff  pos:0 ino:1 sdev:9";
        assert_eq!(parse_epoll_entry(line).map(|watched| watched.data), Some(u64::MAX));
    }

    #[test]
    fn anonymous_mappings_have_no_file() {
        let range = |line: &str| parse_mapping(line.as_bytes());
        let heap = (Mapping::Anonymous, (0xc0_0000_0000, 0xc0_0080_0000));
        assert_eq!(range("c000000000-c000800000 rw-p 00000000 00:00 0 "), Some(heap));
        assert_eq!(
            range("1000-2000 rw-p 00000000 00:00 0                     [anon: Go: heap]"),
            Some((Mapping::Anonymous, (0x1000, 0x2000)))
        );
        for rights in ["r--p", "rw-p", "r-xp"] {
            let line = format!("1000-2000 {rights} 00000000 fe:00 17                         /usr/bin/containerd");
            let kind = if rights == "rw-p" { Mapping::Data } else { Mapping::File };
            assert_eq!(range(&line), Some((kind, (0x1000, 0x2000))));
        }
        for other in [
            "1000-2000 r--p 00000000 00:00 0",
            "1000-2000 ---p 00000000 fe:00 17                         /usr/bin/containerd",
            "1000-2000 rw-p 00000000 00:00 0                          [stack]",
            "2000-1000 rw-p 00000000 00:00 0",
            "x-2000 rw-p 00000000 00:00 0",
            "",
        ] {
            assert_eq!(range(other), None, "{other}");
        }
    }

    #[test]
    fn stack_is_anonymous_mapping() {
        let local = 0_u64;
        let at = std::ptr::from_ref(&local).addr() as u64;
        let in_stack = Proc::new("/proc")
            .mappings(std::process::id())
            .anonymous
            .iter()
            .any(|(start, end)| (*start..*end).contains(&at));
        assert!(in_stack, "a thread's stack is an anonymous mapping, too");
    }

    #[test]
    fn arguments_are_bounded_in_number_and_size() {
        assert_eq!(parse_argv(b""), (vec![], false));
        assert_eq!(parse_argv(b"\0"), (vec!["".into()], false));
        assert_eq!(parse_argv(b"kubectl: exec"), (vec!["kubectl: exec".into()], false));
        let (argv, truncated) = parse_argv(&b"a\0".repeat(64));
        assert_eq!((argv.len(), truncated), (64, false));
        let (argv, truncated) = parse_argv(&b"a\0".repeat(65));
        assert_eq!((argv.len(), truncated), (64, true));
        let (argv, truncated) = parse_argv(&[b'x'; MAX_ARG_BYTES + 1]);
        assert_eq!((argv[0].as_bytes().len(), truncated), (MAX_ARG_BYTES, true));
        assert!(!parse_argv(&[b'x'; MAX_ARG_BYTES]).1);
    }

    #[test]
    fn cgroup_path_prefers_the_container() {
        let id = "0123456789abcdef".repeat(4);
        let both = format!("12:pids:/x\n1:name=systemd:/kubepods/podab/{id}\n0::/y\n");
        assert_eq!(choose_cgroup(both.as_bytes()), Some(format!("/kubepods/podab/{id}").as_str().into()));
        assert_eq!(choose_cgroup(b"4:memory:/a\n0::/b:c\n"), Some("/b:c".into()));
        assert_eq!(choose_cgroup(b"4:memory:/a\n0::/\n"), Some("/a".into()));
        assert_eq!(choose_cgroup(b"nonsense\n\xff"), None);
    }

    #[test]
    fn own_process_is_described_and_threads_are_not() {
        let proc = Proc::new("/proc");
        let own = std::process::id();
        let (key, info) = proc.describe(own).unwrap();
        assert_eq!(key.tgid, own);
        assert!(!info.argv.is_empty());
        assert_eq!(info.parent.map(|parent| parent.tgid), Some(std::os::unix::process::parent_id()));
        // The test itself runs in a thread that is not the leader.
        let tid = fs::read_link("/proc/thread-self").unwrap();
        let tid: u32 = number(tid.file_name().unwrap().as_bytes()).unwrap();
        assert_ne!(tid, own);
        assert_eq!(proc.key(tid), None);
    }
}
