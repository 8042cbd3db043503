//! Errors of a scan that hide a part of the host.

use crate::model::Degraded;

/// Code of the degradation for processes that hide their open files.
pub const HIDDEN: &str = "hidden-processes";

/// Code of the degradation for other network namespaces.
const NO_NETNS: &str = "no-netns";

/// Why a scan saw less of the host than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ScanError {
    /// The tracer may not enter another network namespace, and found no other way to its sockets.
    NotPermitted,
    /// The tracer may not enter another network namespace. The iterator listed its sockets, without the files of unix listeners.
    NoListeners,
    /// The kernel does not answer questions about TCP sockets.
    NoTcp,
    /// The kernel does not answer questions about unix sockets.
    NoUnix,
    /// A process hides its open files.
    Hidden,
    /// The host has more sockets or network namespaces than a scan takes.
    TooMany,
}

/// The degradation that an error stands for.
pub(super) fn degraded(error: ScanError) -> Degraded {
    let (code, text, hint) = match error {
        ScanError::NotPermitted => (
            NO_NETNS,
            "the tracer may not enter other network namespaces: connections there that are older than the tracer stay unknown",
            "run as root, or grant CAP_SYS_ADMIN",
        ),
        ScanError::NoListeners => (
            NO_NETNS,
            "the tracer may not enter other network namespaces: runtimes there that are older than the tracer are not recognized",
            "run as root, or grant CAP_SYS_ADMIN",
        ),
        ScanError::NoTcp => (
            "no-tcp-diag",
            "the kernel does not list TCP sockets: connections older than the tracer are unknown",
            "load the modules inet_diag and tcp_diag (CONFIG_INET_DIAG)",
        ),
        ScanError::NoUnix => (
            "no-unix-diag",
            "the kernel does not list unix sockets: runtimes and shims older than the tracer are found by their acts only",
            "load the module unix_diag (CONFIG_UNIX_DIAG)",
        ),
        ScanError::Hidden => (
            HIDDEN,
            "some processes hide their open files: sockets and files of these processes have no owner",
            "run as root, with CAP_SYS_PTRACE, outside of containers",
        ),
        ScanError::TooMany => (
            "snapshot-cut",
            "this host has more sockets or network namespaces than a snapshot takes: some are left out",
            "limit the tracer to one network namespace: --netns",
        ),
    };
    Degraded { code: code.to_owned(), text: text.to_owned(), hint: hint.to_owned(), fatal: false }
}
