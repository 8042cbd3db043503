//! A tunnel to the nodes that accepts dials and does nothing with them.

use std::fs;

use serde_json::json;

use super::{
    Session, left_over_by,
    second_apiserver::{PORT, SecondApiServer, through},
    silent_server::{SilentServer, pki},
};
use crate::kubectl::Exec;

/// Address at which konnectivity's server would accept dials.
const TUNNEL: &str = "192.168.205.10:8131";

#[test]
fn f03_tunnel_dials_pile_up() {
    let _tunnel = SilentServer::new(TUNNEL);
    let config = json!({
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{
            "name": "cluster",
            "connection": {
                "proxyProtocol": "HTTPConnect",
                "transport": {"tcp": {
                    "url": format!("https://{TUNNEL}"),
                    "tlsConfig": {
                        "caBundle": pki("ca.crt"),
                        "clientCert": pki("kubelet-client.crt"),
                        "clientKey": pki("kubelet-client.key"),
                    },
                }},
            },
        }],
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("egress.json");
    fs::write(&file, config.to_string()).expect("a file");
    let _server = SecondApiServer::new(&format!("--egress-selector-config-file={}", file.display()));
    let ask = || Session::ask_by(Exec { globals: through(), ..Exec::sh("sleep 600") });
    let _sessions = [ask(), ask(), ask(), ask()];
    left_over_by(&["--apiserver-port", PORT], "F03");
}
