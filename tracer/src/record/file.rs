//! Opens output files that the user named. The program runs as root, often in a folder writable by others, such as
//! /tmp: another user may have prepared the file at that path.

use std::{
    error::Error,
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::{
    fd::{AsRawFd, OwnedFd},
    fs::{FileType, Mode, OFlags, Stat, fchmod, fstat, ftruncate, open},
    io::Errno,
    process::geteuid,
};

/// Arguments may contain secrets: only the owner may read the file.
const MODE: u32 = 0o600;

/// Handling of an existing file with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse the file.
    Keep,
    /// Truncate the file.
    Replace,
}

/// Reason for refusing an output file.
#[derive(Debug)]
pub enum CreateError {
    /// The file has content.
    Exists,
    /// `-` is a terminal.
    Terminal,
    /// Not a regular file, but the named kind.
    NotAFile(&'static str),
    /// Another user may have prepared the file, for the named reason.
    NotOwn(&'static str),
    /// The file cannot be created.
    Io(io::Error),
}

impl CreateError {
    /// Advice for the user.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Exists => "recordings are never overwritten: use another name, or remove the file",
            Self::Terminal => "use a file, or a pipe: `--record - -o tree=FILE | …`",
            Self::NotAFile(_) => "use a file name; for a pipe or a device, write to stdout (`-`) and redirect it",
            Self::NotOwn(_) => "use another name, or remove the file; prefer a directory that only you can write to",
            Self::Io(_) => "the directory must exist and be writable",
        }
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("the file exists and is not empty"),
            Self::Terminal => f.write_str("stdout is a terminal"),
            Self::NotAFile(what) => write!(f, "it is {what}, not a regular file"),
            Self::NotOwn(why) => f.write_str(why),
            Self::Io(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Exists | Self::Terminal | Self::NotAFile(_) | Self::NotOwn(_) => None,
        }
    }
}

/// Opens an output file, empty and with mode 0600. The file is new, or it exists, belongs to the caller and has no
/// other name. Follows no symbolic link and opens only regular files.
///
/// # Errors
/// The file is none of these, has content that must be kept, or cannot be created.
pub fn create(path: &Path, existing: Existing) -> Result<File, CreateError> {
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => reuse(path, existing),
        new => new.map_err(CreateError::Io),
    }
}

/// Creates a new file. An existing name is an error, even a dangling symbolic link (open(2), `O_EXCL`).
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// A new file without a name in the folder of `path`, for reading and writing. It goes with its last descriptor.
///
/// # Errors
/// The folder does not exist or cannot be written.
pub fn unnamed(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match open(folder, flags, Mode::from_raw_mode(MODE)) {
        Ok(file) => Ok(file.into()),
        // Not every file system has unnamed files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let name = folder.join(format!(".execpath-{}", std::process::id()));
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&name)?;
            std::fs::remove_file(&name)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

fn reuse(path: &Path, existing: Existing) -> Result<File, CreateError> {
    let failed = |error: Errno| CreateError::Io(error.into());
    // `O_PATH` does not open the file itself: a FIFO does not block, and a device is not triggered.
    let found = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let facts = fstat(&found).map_err(failed)?;
    check(&facts)?;
    if existing == Existing::Keep && facts.st_size > 0 {
        return Err(CreateError::Exists);
    }
    // Reopen the checked file itself: its name may lead to another file by now.
    let file: OwnedFd =
        open(format!("/proc/self/fd/{}", found.as_raw_fd()), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed)?;
    fchmod(&file, Mode::from_raw_mode(MODE)).map_err(failed)?;
    ftruncate(&file, 0).map_err(failed)?;
    Ok(file.into())
}

/// Accepts a regular file of the caller with a single name.
fn check(facts: &Stat) -> Result<(), CreateError> {
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(CreateError::NotAFile("a symbolic link")),
        FileType::Fifo => return Err(CreateError::NotAFile("a FIFO")),
        FileType::Socket => return Err(CreateError::NotAFile("a socket")),
        FileType::Directory => return Err(CreateError::NotAFile("a folder")),
        FileType::CharacterDevice | FileType::BlockDevice => return Err(CreateError::NotAFile("a device")),
        FileType::Unknown => return Err(CreateError::NotAFile("something else")),
    }
    if facts.st_uid != geteuid().as_raw() {
        return Err(CreateError::NotOwn("the file belongs to another user"));
    }
    if facts.st_nlink != 1 {
        return Err(CreateError::NotOwn("the file has a second name (hard link)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write,
        os::unix::{
            fs::{PermissionsExt, symlink},
            net::UnixListener,
        },
    };

    use super::*;

    #[test]
    fn new_and_own_files_become_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        create(&path, Existing::Keep).unwrap().write_all(b"one").unwrap();
        assert_eq!((mode(), fs::read(&path).unwrap()), (0o600, b"one".to_vec()));
        assert!(matches!(create(&path, Existing::Keep), Err(CreateError::Exists)));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        create(&path, Existing::Replace).unwrap().write_all(b"2").unwrap();
        assert_eq!((mode(), fs::read(&path).unwrap()), (0o600, b"2".to_vec()));
    }

    #[test]
    fn only_a_regular_file_with_one_name_is_a_target() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("mine"), "mine").unwrap();
        symlink(path("mine"), path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        fs::hard_link(path("mine"), path("hard")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let fifo = path("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for existing in [Existing::Keep, Existing::Replace] {
            let refused = |name: &str| create(&path(name), existing).unwrap_err().to_string();
            for name in ["link", "dangling"] {
                assert_eq!(refused(name), "it is a symbolic link, not a regular file");
            }
            assert_eq!(refused("fifo"), "it is a FIFO, not a regular file");
            assert_eq!(refused("socket"), "it is a socket, not a regular file");
            assert_eq!(refused("."), "it is a folder, not a regular file");
            assert_eq!(refused("hard"), "the file has a second name (hard link)");
            let device = create(Path::new("/dev/null"), existing).unwrap_err();
            assert_eq!(device.to_string(), "it is a device, not a regular file");
        }
        assert_eq!(fs::read(path("mine")).unwrap(), b"mine");
        assert!(!path("nowhere").exists());
    }
}
