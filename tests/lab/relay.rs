//! A plain TCP relay on the path. Go moves its bytes with splice(2), bypassing the calls that other proxies use.

use std::process::Stdio;

use crate::{
    env::{lab, wait_until, xtask},
    kubectl::{Exec, Kubectl, Mode},
    oracle::{Oracle, is_right},
    reported::ReportedSession,
    sessions::short,
    tracer::Tracer,
};

/// Address of the relay on the client's host.
pub(crate) const LISTEN: &str = "127.0.0.1:7443";

/// Starts the relay on the client's host.
pub(crate) fn relay(options: &[&str]) -> Kubectl {
    let mut command = xtask(&[["lab", "relay", LISTEN].as_slice(), options].concat());
    let relay = Kubectl::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), None);
    wait_until("the relay listens", || {
        let text = crate::env::output(crate::env::on("client", "ss").args(["-tlnpH"]));
        text.lines().any(|line| line.contains(LISTEN) && line.contains(&format!("pid={},", relay.pid()))).then_some(())
    });
    relay
}

/// Options that send kubectl through the relay.
pub(crate) fn through() -> Vec<String> {
    vec![format!("--server=https://{LISTEN}"), "--tls-server-name=192.168.205.10".to_owned()]
}

#[test]
fn splicing_relay_is_an_exact_hop() {
    // The relay is found, started before or after the tracer.
    for before in [true, false] {
        let early = before.then(|| relay(&[]));
        let mut tracer = Tracer::start(&[]);
        let relay = early.unwrap_or_else(|| relay(&[]));
        let mut marks = Vec::new();
        for (mode, version) in
            [(Mode::Plain, lab().newest()), (Mode::Stdin, lab().oldest()), (Mode::Tty, lab().newest())]
        {
            let (mark, exec) = short(mode, version);
            let exec = Exec { globals: through(), ..exec };
            let kubectl = exec.start();
            let session = tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
            let oracle = Oracle::inspect();
            is_right(&session, &exec, kubectl.pid());
            assert_eq!(session.roles()[..3], ["kubectl", "proxy", "apiserver"]);
            assert_eq!(session.pid("proxy"), Some(relay.pid()));
            let chain = [kubectl.pid(), relay.pid(), lab().daemon("kube-apiserver"), lab().daemon("kubelet")];
            oracle.confirms(&session, &exec, &chain);
            assert!(kubectl.end().status.success());
            tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
            marks.push(mark);
        }
        tracer.finish().holds_only(&marks);
    }
}
