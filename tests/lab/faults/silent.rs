//! A server on the API server's host that takes connections and questions, and answers none.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
};

use crate::env::{lab, on, output, wait_until};

/// Speaks TLS, with the API server's own certificate, which is good for that host's address. Gone when this goes.
pub(super) struct Silent(Child);

impl Silent {
    pub(super) fn new(address: &str) -> Self {
        let mut server = on("master", "openssl");
        server.args(["s_server", "-quiet", "-accept", address]);
        server.arg("-cert").arg(pki("apiserver.crt")).arg("-key").arg(pki("apiserver.key"));
        // What it would answer with is its stdin: a pipe that stays open.
        let server = server.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self(server.expect("openssl starts"));
        wait_until("it listens", || sockets("-tlnH").contains(address).then_some(()));
        server
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Certificates and keys of the lab.
pub(super) fn pki(file: &str) -> PathBuf {
    lab().kubeconfigs["admin"].parent().expect("a folder").join(file)
}

/// Sockets on that host, as `ss` shows them.
pub(super) fn sockets(options: &str) -> String {
    output(on("master", "ss").arg(options))
}
