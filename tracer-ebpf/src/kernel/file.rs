//! Resolves file descriptors of the running process.

use super::{offset, pointer, read, sock::Sock, task::Task};

/// include/uapi/linux/stat.h
pub const S_IFMT: u16 = 0o170_000;
pub const S_IFSOCK: u16 = 0o140_000;
pub const S_IFIFO: u16 = 0o010_000;
pub const S_IFCHR: u16 = 0o020_000;
/// include/uapi/linux/magic.h: the file system of pipes made by pipe(2).
pub const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// A file.
///
/// kernel: include/linux/fs.h:struct file
#[derive(Clone, Copy)]
struct File {
    file: u64,
    inode: u64,
    kind: u16,
}

/// The file behind `fd` of the running process.
///
/// kernel: include/linux/fdtable.h:files_lookup_fd_raw
#[inline(always)]
fn file_of(fd: u32) -> Option<File> {
    let files = Task::current().files()?;
    let table = pointer(files, offset!(files_fdt))?;
    if fd >= read::<u32>(table, offset!(fdt_max_fds))? {
        return None;
    }
    let array = pointer(table, offset!(fdt_fd))?;
    let file = pointer(array + u64::from(fd) * 8, 0)?;
    let inode = pointer(file, offset!(file_inode))?;
    Some(File { file, inode, kind: read::<u16>(inode, offset!(inode_mode))? & S_IFMT })
}

/// The socket behind `fd` of the running process; `None` for any other file.
///
/// kernel: net/socket.c:sock_from_file (`private_data` of a socket's file)
#[inline(always)]
pub fn socket_of(fd: u32) -> Option<Sock> {
    let File { file, kind, .. } = file_of(fd)?;
    if kind != S_IFSOCK {
        return None;
    }
    let socket = pointer(file, offset!(file_private_data))?;
    pointer(socket, offset!(socket_sk)).map(Sock)
}

/// Device and inode number of the FIFO or pipe behind `fd` of the running process; `None` for any other file. A pipe
/// has no name, but a `runc exec` that holds its other end shows the same inode number.
///
/// kernel: include/linux/fs.h:struct super_block
#[inline(always)]
pub fn fifo_of(fd: u32) -> Option<(u32, u64)> {
    let File { inode, kind, .. } = file_of(fd)?;
    if kind != S_IFIFO {
        return None;
    }
    let block = pointer(inode, offset!(inode_sb))?;
    Some((read(block, offset!(sb_dev))?, read(inode, offset!(inode_ino))?))
}
