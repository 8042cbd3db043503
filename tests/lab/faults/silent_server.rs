//! A server on the API server's host that accepts connections and requests, and never answers.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
};

use crate::env::{lab, on, output, wait_until};

/// A TLS server with the API server's own certificate, valid for the host's address. Killed on drop.
pub(super) struct SilentServer(Child);

impl SilentServer {
    pub(super) fn new(address: &str) -> Self {
        let mut server = on("master", "openssl");
        server.args(["s_server", "-quiet", "-accept", address]);
        server.arg("-cert").arg(pki("apiserver.crt")).arg("-key").arg(pki("apiserver.key"));
        // The server's answers come from its stdin: a pipe that stays open and empty.
        let server = server.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self(server.expect("openssl starts"));
        wait_until("the silent server listens", || sockets("-tlnH").contains(address).then_some(()));
        server
    }
}

impl Drop for SilentServer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Path of a certificate or key of the lab.
pub(super) fn pki(file: &str) -> PathBuf {
    lab().kubeconfigs["admin"].parent().expect("a folder").join(file)
}

/// Sockets on the API server's host, as `ss` shows them.
pub(super) fn sockets(options: &str) -> String {
    output(on("master", "ss").arg(options))
}
