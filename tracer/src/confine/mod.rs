//! Gives up the rights that the process no longer needs, before it reads the data of others.
//!
//! * A live command keeps four capabilities ([`to_look`]) and the system calls of a tracer (`seccomp`). A process of its own keeps
//!   CAP_SYS_ADMIN and reads nothing of others ([`helper`]).
//! * A command that reads a recording keeps its own files ([`to_files`]), by Landlock, and no capability.
//!
//! Capabilities and Landlock bind the calling thread alone and are inherited by its later threads, so both are applied before other
//! threads start. A seccomp filter binds all threads at once. A step that this kernel refuses is logged and left out: the rights
//! protect the host from a fault in execpath, and no answer depends on them.
//!
//! Nothing happens before [`enable`], which the command line calls: a program that uses this library keeps its rights.

mod capabilities;
mod files;
pub mod helper;
mod seccomp;

use std::{path::Path, sync::OnceLock};

use self::seccomp::Calls;
pub use self::{
    files::Refused,
    seccomp::{Denied, Net},
};

/// Settings of the process.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Consequence of a system call that is not on the list.
    pub denied: Denied,
    /// The process ends child processes that it started before.
    pub has_children: bool,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();
/// Set once a live command has given up its rights.
static LOOKS: OnceLock<()> = OnceLock::new();

/// Has the other functions of this module take effect. A second call changes nothing.
pub fn enable(settings: Settings) {
    let _enabled_before = SETTINGS.set(settings);
}

/// Prepares a live command. Call this before any thread starts: the helper is a copy of this process.
pub fn prepare() {
    if SETTINGS.get().is_some()
        && capabilities::may_enter_namespaces()
        && let Err(error) = helper::start()
    {
        tracing::info!(%error, "no helper: CAP_SYS_ADMIN is kept");
    }
}

/// True if the process can open sockets in other network namespaces, itself or by its helper.
#[must_use]
pub fn may_enter_namespaces() -> bool {
    helper::is_running() || capabilities::may_enter_namespaces()
}

/// Keeps what a live command needs once its probes are attached. `folder` is a folder in which the command will create files, `net` its
/// connections to other programs. A second call changes nothing: what the process gave up is gone.
pub fn to_look(folder: Option<&Path>, net: Net) {
    let Some(settings) = SETTINGS.get() else { return };
    if LOOKS.set(()).is_err() {
        return;
    }
    let entered = if helper::is_running() { capabilities::LOOKING } else { capabilities::LOOKING_EVERYWHERE };
    note("capabilities", capabilities::keep(entered, folder));
    note(
        "system calls",
        seccomp::apply(Calls { looks: true, has_children: settings.has_children, net }, settings.denied),
    );
}

/// Drops every capability of the calling thread, such as one that paints or waits while another thread looks.
pub fn drop_capabilities() {
    if SETTINGS.get().is_some() {
        note("capabilities", capabilities::keep(rustix::thread::CapabilitySet::empty(), None));
    }
}

/// Drops every capability of the calling thread, whose process has given up its rights before.
pub fn drop_capabilities_once_confined() {
    if SETTINGS.get().is_some() {
        note("capabilities", capabilities::drop_all());
    }
}

/// Keeps what a command needs that reads the files `read`, and creates or replaces the files `written`.
pub fn to_files(read: &[&Path], written: &[&Path]) {
    let Some(settings) = SETTINGS.get() else { return };
    drop_capabilities();
    note("files", files::restrict(read, written));
    note(
        "system calls",
        seccomp::apply(Calls { looks: false, has_children: false, net: Net::default() }, settings.denied),
    );
}

/// Keeps what a command needs that reads a message stream on a thread that runs already, and creates or replaces the files
/// `written`.
pub fn to_follow(written: &[&Path]) {
    let Some(settings) = SETTINGS.get() else { return };
    drop_capabilities();
    // A client of TLS reads the authorities of the system at each connection.
    note("files", files::restrict_but_authorities(written));
    let net = Net { connects: true, ..Net::default() };
    note("system calls", seccomp::apply(Calls { looks: false, has_children: false, net }, settings.denied));
}

/// Logs a step that this kernel refused.
fn note<E: std::fmt::Display>(what: &str, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::info!(%error, "not confined: {what}");
    }
}

/// True if the environment may be the caller's and not the user's: under sudo, or where the program or its file gives more rights than
/// the caller has (ld.so(8): secure execution). Variables that change what runs are ignored then.
#[must_use]
pub fn is_environment_foreign() -> bool {
    // SAFETY: getauxval(3) reads a number that the kernel gave at the start of the program.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    is_secure || std::env::var_os("SUDO_UID").is_some()
}
