//! A kubelet whose certificate is not trusted: refused within milliseconds, so that only a trace sees it.

use std::io::Cursor;

use execpath::{
    correlate::{Correlator, Options},
    diagnose::verdicts,
    record::Reader,
};

use super::{
    second::{PORT, Second, through},
    silent::pki,
};
use crate::{
    kubectl::{Exec, mark},
    said::Said,
    tracer::Tracer,
};

#[test]
fn f02_the_api_server_does_not_trust_the_kubelet() {
    // Signed by the right authority, which is not what this file holds.
    let authority = pki("apiserver.crt");
    let _server = Second::new(&format!("--kubelet-certificate-authority={}", authority.display()));
    let mut tracer = Tracer::start(&["--apiserver-port", PORT]);
    let mark = mark();
    let ended = Exec { globals: through(), ..Exec::sh(&format!(": {mark}")) }.start().end();
    assert!(!ended.status.success() && ended.output.contains("x509"), "{ended:?}");
    let said = tracer.wait_for(&mark, "is closed", Said::is_closed);
    assert_eq!(said.roles(), ["kubectl", "apiserver", "kubelet"], "{said:?}");
    let recording = tracer.finish().recording();
    let mut reader = Reader::new(Box::new(Cursor::new(recording.into_bytes()))).expect("a recording");
    let options = Options { apiserver_port: PORT.parse().ok(), ..Options::default() };
    let mut correlator = Correlator::new(&reader.header().host, &options);
    for seen in reader.by_ref() {
        correlator.ingest(&seen);
    }
    correlator.flush();
    let found: Vec<&str> = verdicts(&correlator.report()).into_iter().map(|verdict| verdict.code).collect();
    assert_eq!(found, ["F02"]);
}
