//! An admission webhook that hangs.

use std::{fs, io::Write, process::Stdio};

use serde_json::json;

use super::{
    Session,
    silent_server::{SilentServer, pki, sockets},
};
use crate::{
    env::{lab, wait_until},
    kubectl::kubectl,
};

/// Address of the webhook.
const ADDRESS: &str = "192.168.205.10:9443";
const NAME: &str = "lab-that-hangs";

/// A webhook called before each exec, unregistered on drop.
struct Webhook {
    _server: SilentServer,
}

impl Webhook {
    fn new() -> Self {
        let webhook = Self { _server: SilentServer::new(ADDRESS) };
        let mut create = kubectl(lab().newest(), "admin", 0);
        create.args(["create", "--validate=false", "-f", "-"]).stdin(Stdio::piped());
        let mut create = create.spawn().expect("kubectl starts");
        let asked = configuration().to_string();
        create.stdin.take().expect("a pipe").write_all(asked.as_bytes()).expect("kubectl reads its stdin");
        let created = create.wait_with_output().expect("a child of ours");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        webhook
    }

    /// An exec that waits for the webhook. The API server starts to call the webhook a moment after its registration.
    fn session() -> Session {
        wait_until("the API server calls the webhook", || {
            let mut session = Session::ask("sleep 600; :");
            let is_asked = wait_until("the webhook is called, or the exec is served", || {
                let asked = sockets("-tnH").lines().any(|line| line.starts_with("ESTAB") && line.contains(ADDRESS));
                let served = || session.listed().is_some_and(|one| one["complete"] == true);
                if asked { Some(true) } else { served().then_some(false) }
            });
            if !is_asked {
                session.process = Some(session.pid("process"));
            }
            is_asked.then_some(session)
        })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let mut delete = kubectl(lab().newest(), "admin", 0);
        let _gone = delete.args(["delete", "validatingwebhookconfiguration", NAME]).status();
    }
}

fn configuration() -> serde_json::Value {
    let kubeconfig: serde_json::Value =
        serde_json::from_slice(&fs::read(pki("admin.kubeconfig")).expect("a kubeconfig")).expect("JSON is YAML");
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [{
            "name": "hangs.lab.example",
            "clientConfig": {
                "url": format!("https://{ADDRESS}/"),
                "caBundle": kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"],
            },
            "rules": [{
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CONNECT"],
                "resources": ["pods/exec"],
            }],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            // If the webhook is left behind, it must not block anything.
            "failurePolicy": "Ignore",
            "timeoutSeconds": 30,
        }],
    })
}

#[test]
fn f04_webhook_hangs() {
    let _webhook = Webhook::new();
    Webhook::session().is("F04");
}
