//! A throw-away certificate authority, certificates of servers and users, and a kubeconfig for each client.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::network::Host;

/// Users other than `admin`. They may only view pods and open sessions in them.
pub(super) const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// The user with all rights.
pub(super) const ADMIN: &str = "admin";
/// Group of [`USERS`]: the organisation in their certificates.
pub(super) const GROUP: &str = "lab-users";
/// Address of the API server for clients.
pub(super) const API_SERVER: &str = "https://192.168.205.10:6443";
/// Name of the node.
pub(super) const NODE: &str = "lab-node";

/// The API server treats members of this group as cluster administrators.
const MASTERS: &str = "system:masters";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

struct Leaf {
    certificate: String,
    key: String,
}

/// Writes all keys, certificates and kubeconfigs into `dir`.
pub(super) fn write(dir: &Path) -> Result<()> {
    let ca = Authority::new()?;
    save(dir, "ca.crt", &ca.certificate)?;

    let master = Host::Master.address();
    let servers = [
        ("apiserver", "kube-apiserver", "", vec!["127.0.0.1", master, "10.0.0.1", "kubernetes", "localhost"]),
        ("kubelet", "system:node:lab-node", MASTERS, vec!["127.0.0.1", Host::Worker.address(), NODE]),
        ("kubelet-client", "kube-apiserver-kubelet-client", MASTERS, vec![]),
    ];
    for (file, name, group, hosts) in servers {
        let leaf = ca.leaf(name, group, &hosts)?;
        save(dir, &format!("{file}.crt"), &leaf.certificate)?;
        save(dir, &format!("{file}.key"), &leaf.key)?;
        if file == "kubelet" {
            save(dir, "kubelet.kubeconfig", &kubeconfig(name, &ca, &leaf)?)?;
        }
    }
    let admin = [(ADMIN, MASTERS)];
    for (name, group) in admin.into_iter().chain(USERS.map(|user| (user, GROUP))) {
        let leaf = ca.leaf(name, group, &[])?;
        save(dir, &format!("{name}.kubeconfig"), &kubeconfig(name, &ca, &leaf)?)?;
    }

    let service_accounts = KeyPair::generate()?;
    save(dir, "sa.key", &service_accounts.serialize_pem())?;
    save(dir, "sa.pub", &service_accounts.public_key_pem())
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "lab-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Issues a certificate: for a server with these names and addresses, or for a client if `hosts` is empty.
    fn leaf(&self, name: &str, group: &str, hosts: &[&str]) -> Result<Leaf> {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Leaf { certificate, key: key.serialize_pem() })
    }
}

/// A kubeconfig with embedded certificates, so that a client needs only one file. JSON is valid YAML.
fn kubeconfig(user: &str, ca: &Authority, leaf: &Leaf) -> Result<String> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": API_SERVER,
            "certificate-authority-data": BASE64.encode(&ca.certificate),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": BASE64.encode(&leaf.certificate),
            "client-key-data": BASE64.encode(&leaf.key),
        }}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user, "namespace": "default"}}],
        "current-context": "lab",
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

fn save(dir: &Path, name: &str, text: &str) -> Result<()> {
    let file = dir.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::{ADMIN, API_SERVER, USERS, write};

    #[test]
    fn every_client_gets_its_own_kubeconfig() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path()).expect("files are written");
        let mut keys = Vec::new();
        for user in [ADMIN, "kubelet"].into_iter().chain(USERS) {
            let text = std::fs::read(dir.path().join(format!("{user}.kubeconfig"))).expect("kubeconfig is readable");
            let config: serde_json::Value = serde_json::from_slice(&text).expect("kubeconfig is JSON");
            assert_eq!(config["clusters"][0]["cluster"]["server"], API_SERVER);
            keys.push(config["users"][0]["user"]["client-key-data"].to_string());
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 5);
    }
}
