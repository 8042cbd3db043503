//! Faults caused by daemons on the node.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
};

use super::{
    Session, StoppedProcess, alone, first_of,
    guards::{CleanLab, DescriptorLimit, KilledDaemon, RuncReplacement},
    left_over, named_alone,
};
use crate::{env::lab, env::output, kubectl::Mode, oracle::container};

/// The shim of a pod of the lab.
fn shim_of(pod: &str, name: &str) -> u32 {
    let parent = output(Command::new("ps").args(["-o", "ppid=", "-p", &first_of(pod, name).to_string()]));
    parent.trim().parse().expect("a pid")
}

#[test]
fn f08_stopped_runtime_does_not_answer() {
    let _stopped = StoppedProcess::new(lab().daemon("containerd"));
    let _session = Session::ask("exec sleep 600");
    left_over("F08");
}

#[test]
fn f09_stopped_shim_starts_nothing() {
    let _clean = CleanLab::new();
    let shim = shim_of("web", "web");
    let stopped = StoppedProcess::new(shim);
    let mut session = Session::ask("exec sleep 600");
    let found = alone("F09");
    assert!(found.iter().any(|verdict| verdict["pid"] == shim), "{found:#?}");
    drop(stopped);
    session.begins();
}

#[test]
fn f09_stopped_shim_forwards_nothing() {
    let _clean = CleanLab::new();
    let session = Session::start(Mode::Tty, "exec cat");
    let _stopped = StoppedProcess::new(shim_of("web", "web"));
    session.is("F09");
}

#[test]
fn f14_runc_overfills_its_pipe() {
    let _clean = CleanLab::new();
    let _runc = RuncReplacement::printing_warnings();
    let _session = Session::ask("exec sleep 600");
    // An exec whose runc hangs is a session of its own for `diagnose` alone (docs/limitations.md).
    named_alone("F14");
}

#[test]
fn f15_kubelet_runs_out_of_descriptors() {
    let _clean = CleanLab::new();
    let kubelet = lab().daemon("kubelet");
    let _limit = DescriptorLimit::new(kubelet, 2);
    let _session = Session::ask("exec sleep 600");
    let found = alone("F15");
    assert!(found.iter().any(|verdict| verdict["pid"] == kubelet), "{found:#?}");
}

#[test]
fn f21_stopped_runtime_does_not_read() {
    let _clean = CleanLab::new();
    let session = Session::start(Mode::Plain, "sleep 2; exec yes");
    let _stopped = StoppedProcess::new(lab().daemon("containerd"));
    session.is("F21");
}

#[test]
fn f21_killed_runtime_dropped_session() {
    let _clean = CleanLab::new();
    let _session = Session::start(Mode::Plain, "sleep 2; exec yes");
    let mut killed = KilledDaemon::kill("containerd");
    killed.start_again();
    alone("F21");
}

#[test]
fn f32_hanging_probes_pile_up() {
    let _clean = CleanLab::new();
    let id = container("web", "web");
    let probes: Vec<Probe> = (0..5).map(|_| Probe::start(id.id(), &["sleep", "600"])).collect();
    alone("F32");
    drop(probes);
}

/// The kubelet's request to the runtime for a probe or a hook with a command: the CRI's `ExecSync`.
struct Probe(Child);

impl Probe {
    fn start(container: &str, command: &[&str]) -> Self {
        let text = |field: u8, text: &str| {
            let length = u8::try_from(text.len()).ok().filter(|length| *length < 0x80).expect("a short text");
            [&[field << 3 | 2, length], text.as_bytes()].concat()
        };
        // api/v1alpha2: ExecSyncRequest { container_id = 1; cmd = 2; timeout = 3 }, without a timeout.
        let words = command.iter().flat_map(|word| text(2, word));
        let request: Vec<u8> = text(1, container).into_iter().chain(words).collect();
        let length = u32::try_from(request.len()).expect("a short request");
        let frame = [&[0], &length.to_be_bytes()[..], &request].concat();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--http2-prior-knowledge", "--unix-socket", "/run/containerd/containerd.sock"]);
        curl.args(["--header", "content-type: application/grpc", "--header", "te: trailers", "--data-binary", "@-"]);
        curl.arg("http://localhost/runtime.v1alpha2.RuntimeService/ExecSync");
        let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("curl");
        child.stdin.take().expect("a pipe").write_all(&frame).expect("curl reads its stdin");
        Self(child)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
