//! Messages to the service manager (sd_notify(3)): one datagram each, to the socket that the manager names in the environment.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use rustix::time::{ClockId, clock_gettime};

/// Variable with the path of the socket; a name that begins with `@` is abstract.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The connection to the service manager; silent without one.
pub struct Notify(Option<UnixDatagram>);

impl Notify {
    /// Connects to the manager that the environment names. Call this before the process gives up its rights: it may open no unix socket
    /// afterwards. A manager that cannot be reached is logged and left out.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else { return Self(None) };
        match connect(&path) {
            Ok(socket) => Self(Some(socket)),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be reached: {VARIABLE}");
                Self(None)
            }
        }
    }

    /// The service is ready, or has reloaded its configuration.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The service reloads its configuration. [`Notify::ready`] ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros =
            u128::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u128::try_from(now.tv_nsec).unwrap_or(0) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(message.as_bytes())) {
            tracing::debug!(%error, "the service manager takes no message");
        }
    }
}

fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not stop the trace.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_a_socket_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("execpath-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (text, manager) in [(path.to_str().unwrap().to_owned(), by_path), (format!("@{name}"), by_name)] {
            let notify = Notify(Some(connect(OsStr::new(&text)).unwrap()));
            notify.ready("tracing");
            notify.reloading();
            notify.stopping();
            let mut buffer = [0; 200];
            let mut next = || {
                let bytes = manager.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..bytes]).into_owned()
            };
            assert_eq!(next(), "READY=1\nSTATUS=tracing");
            assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
            assert_eq!(next(), "STOPPING=1");
        }
    }
}
