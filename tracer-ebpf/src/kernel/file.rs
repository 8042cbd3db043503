//! From a file descriptor of the running process to its socket.

use super::{offset, pointer, read, sock::Sock, task::Task};

/// include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// The socket behind `fd` of the running process; `None` where it is something else.
///
/// kernel: include/linux/fdtable.h:files_lookup_fd_raw; net/socket.c:sock_from_file (`private_data` of a socket's file)
#[inline(always)]
pub fn socket_of(fd: u32) -> Option<Sock> {
    let files = Task::current().files()?;
    let table = pointer(files, offset!(files_fdt))?;
    if fd >= read::<u32>(table, offset!(fdt_max_fds))? {
        return None;
    }
    let array = pointer(table, offset!(fdt_fd))?;
    let file = pointer(array + u64::from(fd) * 8, 0)?;
    let inode = pointer(file, offset!(file_inode))?;
    if read::<u16>(inode, offset!(inode_mode))? & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket = pointer(file, offset!(file_private_data))?;
    pointer(socket, offset!(socket_sk)).map(Sock)
}
