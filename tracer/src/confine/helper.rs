//! A process that performs two acts for the tracer, so that the tracer needs no CAP_SYS_ADMIN:
//!
//! * it opens sock_diag sockets in other network namespaces (setns(2));
//! * it opens the kernel stacks of threads (fs/proc/base.c: `proc_pid_stack`).
//!
//! CAP_SYS_ADMIN gives far more than that. The helper is a copy of the process, made before it read anything of others. It keeps two
//! capabilities and twelve system calls. It receives a namespace's file or a thread's folder, and returns an open file. It reads no
//! name, number or text. It ends when the tracer's end of the pair closes, in whatever way the tracer ends.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, netlink, recvmsg, sendmsg, socket_with, socketpair,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space, set_name},
};

use super::{capabilities, seccomp};

/// The tracer's end of the pair.
static HELPER: OnceLock<Mutex<OwnedFd>> = OnceLock::new();

/// System calls of the helper, besides socket(2): the list is short enough that a denied call kills.
const CALLS: [i64; 11] = [
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // A check of the standard library before it closes a descriptor, in debug builds.
    libc::SYS_fcntl,
    libc::SYS_munmap,
    libc::SYS_openat,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_sendmsg,
    libc::SYS_setns,
];

/// True if network namespaces are entered by the helper.
#[must_use]
pub fn is_running() -> bool {
    HELPER.get().is_some()
}

/// Act of the helper, in the byte of a request.
#[derive(Clone, Copy)]
enum Act {
    Socket,
    Stack,
}

/// Opens a sock_diag socket in the network namespace of this file.
///
/// # Errors
/// When there is no helper (`Unsupported`), it is gone, or the file is no network namespace.
pub fn socket(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    request(Act::Socket, namespace)
}

/// Opens the kernel stack of the thread with this folder, `/proc/PID/task/TID`.
///
/// # Errors
/// When there is no helper (`Unsupported`), it is gone, or the thread is.
pub fn stack(thread: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    request(Act::Stack, thread)
}

fn request(act: Act, file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let helper = HELPER.get().ok_or(io::ErrorKind::Unsupported)?;
    let helper = helper.lock().unwrap_or_else(PoisonError::into_inner);
    send(helper.as_fd(), act as u8, Some(file))?;
    match receive(helper.as_fd())? {
        Some((0, Some(opened))) => Ok(opened),
        Some((code, _)) => Err(Errno::from_raw_os_error(i32::from(code)).into()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Starts the helper.
///
/// # Errors
/// When the process has other threads, or cannot be copied.
pub(super) fn start() -> io::Result<()> {
    if is_running() {
        return Ok(());
    }
    // A copy of a process with threads may hold their locks for ever.
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the process has several threads"));
    }
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the process has one thread, so that no lock is held in the copy.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(near);
            // The exit code has no reader.
            serve(&far);
            // SAFETY: ends the copy at once. Its buffers and exit handlers belong to the tracer.
            unsafe { libc::_exit(0) }
        }
        _tracer => {
            drop(far);
            // The helper reports that it has confined itself.
            if receive(near.as_fd())?.is_none() {
                return Err(io::Error::other("the helper could not confine itself"));
            }
            let _first = HELPER.set(Mutex::new(near));
            Ok(())
        }
    }
}

/// The helper: confines itself, then answers until the tracer is gone.
fn serve(tracer: &OwnedFd) {
    // Opened before the helper gives up its rights. An answer ends there: a helper elsewhere would keep that namespace alive.
    let Ok(home) = File::open("/proc/self/ns/net") else { return };
    if confine_helper([tracer.as_raw_fd(), home.as_raw_fd()]).is_err() {
        return;
    }
    if send(tracer.as_fd(), 0, None).is_err() {
        return;
    }
    let enter = |namespace: BorrowedFd<'_>| move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network));
    while let Ok(Some((act, file))) = receive(tracer.as_fd()) {
        let answer = file.ok_or(Errno::BADF).and_then(|file| {
            if act == Act::Stack as u8 {
                return openat(file, "stack", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            }
            enter(file.as_fd())?;
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))
        });
        if enter(home.as_fd()).is_err() {
            return;
        }
        let sent = match &answer {
            Ok(opened) => send(tracer.as_fd(), 0, Some(opened.as_fd())),
            Err(error) => send(tracer.as_fd(), u8::try_from(error.raw_os_error()).unwrap_or(u8::MAX), None),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn confine_helper(kept: [RawFd; 2]) -> Result<(), Box<dyn std::error::Error>> {
    let _unnamed = set_name(c"execpath-helper");
    // Ctrl-C reaches the whole group: the helper has to outlive the tracer's last look.
    block_signals();
    // Inherited descriptors would keep pipes of the user open after the tracer's end.
    close_all_but(kept)?;
    capabilities::keep_of_helper()?;
    seccomp::apply_exactly(&CALLS)
}

fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset(3) initializes the whole set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set is initialized, and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut()) };
}

/// Closes all descriptors but these.
fn close_all_but(mut kept: [RawFd; 2]) -> io::Result<()> {
    kept.sort_unstable();
    let [low, high] = kept.map(RawFd::cast_unsigned);
    for (first, end) in [(0, low), (low + 1, high), (high + 1, u32::MAX)] {
        // SAFETY: the helper uses no descriptor but the kept ones, and ends without running destructors of others.
        if first < end && unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sends one byte, and a descriptor with it.
fn send(to: BorrowedFd<'_>, code: u8, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    let files = file.as_slice();
    if !files.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // A tracer or helper that is gone must not raise SIGPIPE.
    let sent = rustix::io::retry_on_intr(|| sendmsg(to, &[IoSlice::new(&[code])], &mut attached, SendFlags::NOSIGNAL));
    sent.map(|_one| ()).map_err(io::Error::from)
}

/// Receives one byte and at most one descriptor; `None` at the end.
fn receive(from: BorrowedFd<'_>) -> io::Result<Option<(u8, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let mut code = [0];
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut code)], &mut attached, RecvFlags::CMSG_CLOEXEC)
    })?;
    let files = attached
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(files) = message { Some(files) } else { None });
    let file = files.flatten().last();
    Ok((received.bytes == 1).then_some((code[0], file)))
}
