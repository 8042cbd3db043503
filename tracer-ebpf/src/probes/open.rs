//! Every open file of every process, in one pass: sockets of all network namespaces, with the details that a snapshot
//! needs. The program is loaded separately, and runs when it is read.

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_get_socket_cookie, bpf_seq_write, bpf_sock_from_file},
};
use tracer_common::{
    FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, OpenFile, OpenKind, OpenUnix, ROLE_UNKNOWN, Socket, Text, UNIX_PATH_BYTES,
};

use crate::kernel::{
    file::{PIPEFS_MAGIC, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK},
    offset, pointer, read,
    sock::Sock,
    task::Task,
    unix,
};

/// IPPROTO_TCP, IPPROTO_MPTCP; SOCK_STREAM
const TCP: u16 = 6;
const MPTCP: u16 = 262;
const STREAM: u16 = 1;

/// kernel: include/linux/bpf.h:struct bpf_iter_meta
#[repr(C)]
pub struct Meta {
    seq: *mut seq_file,
}

/// kernel: kernel/bpf/task_iter.c:struct bpf_iter__task_file
#[repr(C)]
pub struct Context {
    meta: *const Meta,
    task: *const c_void,
    fd: u32,
    reserved: u32,
    file: *mut c_void,
}

/// kernel: kernel/bpf/task_iter.c:__task_file_seq_show. Omits threads that share their files with the first one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn open_files(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context of this type; its pointers are null once, at the end.
    let Context { meta, task, fd, file, .. } = unsafe { ctx.read() };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: never null.
    let seq = unsafe { (*meta).seq };
    let _none = write_file(seq, Task(task as u64), fd, file);
    0
}

#[inline(always)]
fn write_file(seq: *mut seq_file, task: Task, fd: u32, file: *mut c_void) -> Option<()> {
    let inode = pointer(file as u64, offset!(file_inode))?;
    let mut open = OpenFile {
        start_ns: task.start_ns(),
        inode: read(inode, offset!(inode_ino))?,
        tgid: task.tgid()?,
        fd,
        kind: OpenKind::Other as u32,
        device: 0,
        netns: task.netns(),
        reserved: 0,
    };
    match read::<u16>(inode, offset!(inode_mode))? & S_IFMT {
        S_IFSOCK => return socket(seq, open, file),
        S_IFIFO => {
            let block = pointer(inode, offset!(inode_sb))?;
            let is_pipe = read::<u64>(block, offset!(sb_magic))? == PIPEFS_MAGIC;
            open.kind = if is_pipe { OpenKind::Pipe } else { OpenKind::Fifo } as u32;
        }
        S_IFCHR => {
            open.kind = OpenKind::Device as u32;
            open.device = read(inode, offset!(inode_rdev))?;
        }
        _ => {}
    }
    write(seq, &open)
}

#[inline(always)]
fn socket(seq: *mut seq_file, mut open: OpenFile, file: *mut c_void) -> Option<()> {
    // SAFETY: the kernel passed this file.
    let socket = unsafe { bpf_sock_from_file(file.cast()) };
    if socket.is_null() {
        return None;
    }
    let at = offset!(socket_sk) as usize;
    // SAFETY: a field of a structure that the open file keeps alive. The verifier tracks the type of the pointer, so
    // the helper below accepts it.
    let sk = unsafe { socket.cast::<u8>().add(at).cast::<*mut c_void>().read() };
    open.kind = OpenKind::Socket as u32;
    if sk.is_null() {
        return write(seq, &open);
    }
    let sock = Sock(sk as u64);
    let family = sock.family();
    if family == FAMILY_UNIX {
        open.kind = OpenKind::Unix as u32;
        write(seq, &open)?;
        return write_unix(seq, sock, cookie(sk));
    }
    let (kind, protocol) =
        (read::<u16>(sk as u64, offset!(sock_type))?, read::<u16>(sk as u64, offset!(sock_protocol))?);
    if kind != STREAM || (family != FAMILY_INET && family != FAMILY_INET6) {
        return write(seq, &open);
    }
    // A socket that listens for multipath TCP too (Go's do since 1.24) is in the kernel's table through its first
    // subflow. Both cases share the call below: a second one would not fit on the stack.
    let (sock, cookie) = if protocol == TCP {
        (sock, cookie(sk))
    } else {
        let first = if protocol == MPTCP { pointer(sk as u64, offset!(mptcp_first)).map(Sock) } else { None };
        let Some(first) = first else { return write(seq, &open) };
        (first, first.cookie())
    };
    open.kind = OpenKind::Tcp as u32;
    write(seq, &open)?;
    write_tcp(seq, sock, cookie)
}

/// The cookie of a socket. The kernel makes one if necessary.
#[inline(always)]
fn cookie(sk: *mut c_void) -> u64 {
    // SAFETY: called only with a pointer of a type that the verifier tracks.
    unsafe { bpf_get_socket_cookie(sk) }
}

/// Writes the record where it is made: the stack has no room for copies.
#[inline(always)]
fn write_tcp(seq: *mut seq_file, sock: Sock, cookie: u64) -> Option<()> {
    let mut socket = Socket::NONE;
    sock.describe(cookie, ROLE_UNKNOWN, &mut socket);
    write(seq, &socket)
}

#[inline(always)]
fn write_unix(seq: *mut seq_file, sock: Sock, cookie: u64) -> Option<()> {
    let mut socket = OpenUnix {
        cookie,
        peer_inode: unix::peer(sock).map_or(0, Sock::inode),
        netns: sock.netns(),
        state: u32::from(read::<u8>(sock.0, offset!(sock_state)).unwrap_or(0)),
        // The whole record goes to user space: initialise it, so that no byte of the stack leaks.
        path: Text { len: 0, truncated: 0, bytes: [0; UNIX_PATH_BYTES + 4] },
    };
    unix::path(sock, &mut socket.path);
    write(seq, &socket)
}

/// Writes a record. If it does not fit now, the kernel calls again for the whole descriptor.
#[inline(always)]
fn write<T>(seq: *mut seq_file, record: &T) -> Option<()> {
    // SAFETY: a record of integers without padding, with its exact size.
    let written = unsafe { bpf_seq_write(seq, core::ptr::from_ref(record).cast(), size_of::<T>() as u32) };
    (written == 0).then_some(())
}
