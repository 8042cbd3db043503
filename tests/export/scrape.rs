//! A scraper, and what it must not be able to do.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use execpath::{export::ExportSink, model::Degraded};

use crate::feed;

/// Longest wait of a test for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Status and body of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Sends a request and reads to the end of the connection.
pub(crate) fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(request.as_bytes()).expect("the endpoint reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: execpath\r\nAccept: application/openmetrics-text\r\n\r\n"))
}

/// Value of each series, by its name with labels. Exemplars are left out.
pub(crate) fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let line = line.split(" # ").next().expect("a line");
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    series.collect()
}

#[test]
fn endpoint_serves_both_formats() {
    let exporter = feed::exporter();
    let address = exporter.address().expect("a port");
    feed::feed(vec![Box::new(ExportSink::of(&exporter))], &feed::recording("exit-3"));
    let open = get(address, "/metrics");
    assert_eq!(open.status, 200);
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    let plain = send(address, "GET /metrics HTTP/1.1\r\nHost: execpath\r\n\r\n");
    assert!(plain.head.contains("text/plain; version=0.0.4"), "{}", plain.head);
    assert!(!plain.body.contains("# EOF"));
    // The process's own processor time grows between the two, and the formats write bounds and the order of labels differently.
    let without_own = |text: &str| {
        let mut all = series(text);
        all.retain(|name, _| name.starts_with("execpath_") && !name.contains("_bucket"));
        all
    };
    assert_eq!(series(&open.body).len(), series(&plain.body).len());
    assert_eq!(without_own(&open.body), without_own(&plain.body));
}

#[test]
fn endpoint_refuses_other_requests() {
    let exporter = feed::exporter();
    let address = exporter.address().expect("a port");
    exporter.start().expect("a thread");
    assert_eq!(get(address, "/").status, 404);
    assert_eq!(send(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").status, 405);
    assert_eq!(get(address, "/healthz").status, 200);
    assert_eq!(get(address, &format!("/{}", "x".repeat(20_000))).status, 431);
    let large = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(send(address, &large).status, 431);
}

#[test]
fn readiness_waits_for_the_probes() {
    let exporter = feed::exporter();
    let address = exporter.address().expect("a port");
    exporter.start().expect("a thread");
    assert_eq!(get(address, "/readyz").status, 503);
    let missing = Degraded { code: "no-btf".into(), text: String::new(), hint: String::new(), fatal: true };
    exporter.refuse(&missing);
    assert_eq!(get(address, "/readyz").status, 200, "an unsupported host must not restart the pod for ever");
    let all = series(&get(address, "/metrics").body);
    assert_eq!((all["execpath_up"], all["execpath_unsupported{code=\"no-btf\"}"]), (0.0, 1.0));
}

/// Connections that send nothing take every place, and are closed: a scraper behind them is served.
#[test]
fn silent_connections_do_not_keep_the_scraper_out() {
    let exporter = feed::exporter();
    let address = exporter.address().expect("a port");
    exporter.start().expect("a thread");
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).expect("the kernel accepts")).collect();
    let began = Instant::now();
    assert_eq!(get(address, "/healthz").status, 200);
    assert!(began.elapsed() > Duration::from_secs(1), "the places were not taken: the test shows nothing");
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        // Closed without an answer, or with 408.
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok(), "the endpoint closes");
    }
}
