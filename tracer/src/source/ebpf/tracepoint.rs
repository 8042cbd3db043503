//! Attaches programs to the tracepoints of system calls, by perf_event_open(2).
//!
//! aya looks for tracefs at two fixed places. In a container the host's tracefs may be elsewhere.

use std::{
    fs, io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use aya_obj::generated::{
    PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_type_id,
};

/// Folder of these tracepoints below the mount point of tracefs.
const FOLDER: &str = "events/syscalls";

/// An attached program. Dropping the value detaches it.
#[derive(Debug)]
pub(super) struct Attached {
    /// The perf event. It ends with its last descriptor.
    _event: OwnedFd,
}

/// Attaches a loaded program to the tracepoint of this name.
///
/// # Errors
/// When tracefs lists no such tracepoint, or the kernel refuses.
pub(super) fn attach(program: BorrowedFd<'_>, tracefs: &Path, name: &str) -> io::Result<Attached> {
    let file = tracefs.join(FOLDER).join(name).join("id");
    let text = fs::read_to_string(&file)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display())))?;
    let number = text.trim().parse().map_err(|_not_a_number| io::Error::other("a tracepoint has no number"))?;
    let event = open(number)?;
    let program = libc::c_ulong::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    control(&event, PERF_EVENT_IOC_SET_BPF, program)?;
    control(&event, PERF_EVENT_IOC_ENABLE, 0)?;
    Ok(Attached { _event: event })
}

/// Opens a tracepoint as a perf event. A program at the event runs on every CPU, whatever CPU the event names
/// (kernel/trace/trace_syscalls.c: `perf_syscall_enter`).
fn open(number: u64) -> io::Result<OwnedFd> {
    // SAFETY: integers: the kernel reads zero as "not given".
    let mut attr: perf_event_attr = unsafe { MaybeUninit::zeroed().assume_init() };
    attr.type_ = perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attr.size = u32::try_from(size_of::<perf_event_attr>()).map_err(io::Error::other)?;
    attr.config = number;
    let (every_process, cpu, no_group, flags) = (-1, 0, -1, libc::c_ulong::from(PERF_FLAG_FD_CLOEXEC));
    // SAFETY: the attributes live during the call, and are as long as they say.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, every_process, cpu, no_group, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn control(event: &OwnedFd, request: u32, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these requests take numbers, no pointers.
    let done = unsafe { libc::ioctl(event.as_raw_fd(), request.into(), argument) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn missing_tracepoint_is_named() {
        let tracefs = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile().unwrap();
        let error = attach(file.as_fd(), tracefs.path(), "sys_exit_accept4").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("events/syscalls/sys_exit_accept4/id"), "{error}");
        let folder = tracefs.path().join(FOLDER).join("sys_exit_accept4");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("id"), "none\n").unwrap();
        assert_eq!(attach(file.as_fd(), tracefs.path(), "sys_exit_accept4").unwrap_err().kind(), io::ErrorKind::Other);
    }
}
