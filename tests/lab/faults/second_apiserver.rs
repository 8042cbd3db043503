//! A second API server, for faults that must not disturb the first one.

use std::{
    fs,
    process::{Child, Stdio},
};

use crate::{
    env::{lab, on, wait_until},
    kubectl::kubectl,
};

/// Port of the second API server.
pub(super) const PORT: &str = "6444";

/// A second API server of the cluster, with this option instead of the first one's. Killed on drop.
pub(super) struct SecondApiServer(Child);

impl SecondApiServer {
    pub(super) fn new(option: &str) -> Self {
        let first = lab().daemon("kube-apiserver");
        let program = fs::read_link(format!("/proc/{first}/exe")).expect("the API server's program");
        let arguments = fs::read(format!("/proc/{first}/cmdline")).expect("the API server's arguments");
        let arguments = arguments.split(|byte| *byte == 0).skip(1).filter(|word| !word.is_empty());
        let arguments = arguments.map(|word| String::from_utf8_lossy(word).into_owned());
        // The audit log allows one writer only.
        let (name, _value) = option.split_once('=').expect("--name=value");
        let kept =
            arguments.filter(|word| !["--secure-port=", "--audit-", name].iter().any(|own| word.starts_with(own)));
        let mut server = on("master", program);
        server.args(kept).arg(format!("--secure-port={PORT}")).arg(option).stdin(Stdio::null());
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self(server.expect("an API server starts"));
        wait_until("the second API server is ready", || {
            let mut ask = kubectl(lab().newest(), "admin", 0);
            let answer = ask.args(through()).args(["get", "--raw", "/readyz"]).output().expect("kubectl starts");
            answer.status.success().then_some(())
        });
        server
    }
}

impl Drop for SecondApiServer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Options that send kubectl to the second API server.
pub(super) fn through() -> Vec<String> {
    vec![format!("--server=https://192.168.205.10:{PORT}")]
}
