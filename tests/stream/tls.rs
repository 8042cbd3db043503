//! TLS: the certificate of the real server is verified against the host of the URL.

use std::{fs, path::PathBuf};

use execpath::stream::{Files, Publisher};
use execpath_tests::{
    binary::{Ran, run},
    nats::{Server, is_installed},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::publish::publish;

/// An authority, and a server with its certificate for the name `localhost` alone.
struct Certified {
    folder: TempDir,
    server: Server,
}

impl Certified {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(authority, key);
        let own = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = certificate.signed_by(&own, &issuer).expect("a certificate");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ca.pem"), root.pem()).expect("a file");
        fs::write(path("server.pem"), certificate.pem()).expect("a file");
        fs::write(path("key.pem"), own.serialize_pem()).expect("a file");
        let server =
            Server::start(&format!("tls {{ cert_file: {:?}, key_file: {:?} }}", path("server.pem"), path("key.pem")));
        Self { folder, server }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Address of a cluster's stream, with this name of the host.
    fn address(&self, host: &str) -> String {
        self.server.address("prod").replace("nats://127.0.0.1:", &format!("tls://{host}:"))
    }
}

fn list(address: &str, more: &[&str]) -> Ran {
    run(["ls", "--kind", "all", "--from", address].iter().chain(more))
}

#[test]
fn certificate_is_verified_against_name_of_url() {
    if !is_installed() {
        return;
    }
    let certified = Certified::start();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/hosts/all.jsonl.zst");
    let (named, by_address) = (certified.address("localhost"), certified.address("127.0.0.1"));
    let files = Files { ca: Some(certified.ca()), ..Files::default() };
    let written = publish(&file, &named, &files, Publisher::rotate());
    assert_eq!(written.undelivered, 0);
    let ca = certified.ca();
    let ca = ["--nats-ca", ca.to_str().expect("a path")];
    let read = list(&named, &ca);
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    assert!(read.stderr.contains("1 host heard"), "{}", read.stderr);
    let whole = run(["ls", "--kind", "all", "--from", file.to_str().expect("a path")]);
    assert_eq!(read.stdout, whole.stdout);
    // In the sandbox of a follower.
    let followed = run(["trace", "--from", &named, "--duration", "1s"].iter().chain(&ca));
    assert_eq!(followed.code, Some(0), "{}", followed.stderr);
    assert!(followed.stderr.contains("1 host heard: "), "{}", followed.stderr);
    // The certificate is for another name.
    let wrong = list(&by_address, &ca);
    assert_eq!(wrong.code, Some(5), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("cannot connect: "), "{}", wrong.stderr);
    let refused = publish(&file, &by_address, &files, Publisher::rotate());
    assert_eq!(refused.undelivered, refused.observations);
    // Its authority is unknown to the system.
    let unknown = list(&named, &[]);
    assert_eq!(unknown.code, Some(5), "{}", unknown.stderr);
    // Nothing was published meanwhile.
    assert_eq!(list(&named, &ca).stdout, whole.stdout);
}

#[test]
fn unusable_certificates_are_an_error_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    for (text, what) in [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "")]
    {
        fs::write(&file, text).expect("a file");
        let path = file.to_str().expect("a path");
        let ran = list("tls://127.0.0.1:1/prod", &["--nats-ca", path]);
        assert_eq!(ran.code, Some(5), "{}", ran.stderr);
        assert!(ran.stderr.contains(what) && ran.stderr.contains("\nhint: "), "{}", ran.stderr);
        let ran = list("nats://127.0.0.1:1/prod", &["--nats-ca", path]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    }
}
