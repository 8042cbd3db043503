//! Traces, logs and metrics at a receiver: field by field, and with a receiver that is down, slow, refuses, and comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use execpath::{
    export::{ExportError, ExportSink, Exporter, Options},
    model::{BootTime, Change, ExitStatus, Finding, GapCode, Session, SessionId, Totals},
    otlp::ATTRIBUTES,
    sink::Sink,
};
use execpath_tests::{receiver::Receiver, samples};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::metric::Data,
    trace::v1::Span,
};

use crate::feed;

fn exporter(address: std::net::SocketAddr) -> Exporter {
    Exporter::new(&Options { otlp: Some(address.to_string()), ..Options::default() }).expect("an address")
}

/// Attributes as text, for comparison.
fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::ArrayValue(list) => {
            let values = list.values.iter().filter_map(|value| match &value.value {
                Some(Value::StringValue(text)) => Some(text.as_str()),
                _ => None,
            });
            values.collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    };
    let value =
        |one: &KeyValue| one.value.as_ref().and_then(|value| value.value.as_ref()).map(text).unwrap_or_default();
    attributes.iter().map(|one| (one.key.clone(), value(one))).collect()
}

/// A closed session with this number.
fn session(number: u64) -> Session {
    Session { id: SessionId(format!("s-{number:06x}").into()), ..samples::closed(ExitStatus::Code(3)) }
}

fn closed(session: &Session) -> Finding {
    Finding { at: samples::after(90), change: Change::Closed(Arc::new(session.clone())) }
}

/// Number of spans of a session: its own, and one for each hop and link.
fn spans_of(session: &Session) -> usize {
    1 + session.hops.len() + session.links.len()
}

/// Compares the spans of one trace with its session, field by field.
fn compare(session: &Session, spans: &[&Span]) {
    let header = samples::header();
    assert_eq!(spans.len(), spans_of(session));
    let roots: Vec<_> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    let [root] = roots[..] else { panic!("one root: {roots:?}") };
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "ids are distinct");
    assert!(ids.iter().all(|id| id.len() == 8) && root.trace_id.len() == 16);
    let of_root = texts(&root.attributes);
    assert_eq!(of_root["execpath.session.id"], *session.id.0);
    assert_eq!(of_root["process.command_args"], "sh -c sleep 5000");
    assert_eq!(of_root["k8s.pod.name"], "web");
    assert_eq!(of_root["process.exit.code"], "3");
    assert_eq!(of_root["client.port"], "60886");
    assert_eq!(root.start_time_unix_nano, header.anchor.utc_ns(session.opened_at));
    assert_eq!(root.end_time_unix_nano, header.anchor.utc_ns(session.closed_at.expect("closed")));
    let mut hops = Vec::new();
    for (index, hop) in session.hops.iter().enumerate() {
        let is_it = |span: &&&Span| texts(&span.attributes).get("execpath.hop.index") == Some(&index.to_string());
        let span = spans.iter().find(is_it).expect("a span for each hop");
        let of = texts(&span.attributes);
        assert_eq!((span.name.as_str(), &span.parent_span_id), (hop.role.token(), &root.span_id));
        assert_eq!(of["process.pid"], hop.task.tgid.to_string());
        assert_eq!(of["process.executable.name"], hop.process.comm.to_text());
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        hops.push(span);
    }
    let links: Vec<_> =
        spans.iter().filter(|span| texts(&span.attributes).contains_key("execpath.link.kind")).collect();
    for (link, span) in session.links.iter().zip(links) {
        let of = texts(&span.attributes);
        assert_eq!(span.name, link.kind.token());
        assert_eq!(
            (&of["execpath.link.from"], &of["execpath.link.to"]),
            (&link.from.to_string(), &link.to.to_string())
        );
        assert_eq!(of["execpath.confidence"], link.confidence.token());
        let evidence: Vec<&str> = link.evidence.iter().map(|evidence| evidence.token()).collect();
        assert_eq!(of["execpath.link.evidence"], evidence.join(" "));
        assert_eq!(span.parent_span_id, hops[link.from].span_id, "a link belongs to its nearer hop");
        assert_eq!(span.links[0].span_id, hops[link.to].span_id, "and leads to the farther one");
        if let Some(tcp) = link.tcp {
            assert_eq!(of["network.local.address"], tcp.tuple.local.ip().to_string());
            assert_eq!(of["network.peer.port"], tcp.tuple.remote.port().to_string());
        }
    }
}

#[test]
fn thousand_sessions_are_thousand_traces() {
    const SESSIONS: u64 = 1_000;
    let receiver = Receiver::start();
    let exporter = exporter(receiver.address);
    let mut sink = ExportSink::of(&exporter);
    sink.host(&samples::header()).expect("a thread");
    let sessions: BTreeMap<String, Session> =
        (0..SESSIONS).map(session).map(|session| (session.id.0.to_string(), session)).collect();
    let all: usize = sessions.values().map(spans_of).sum();
    let (mut pushed, mut seen) = (0, 0);
    for session in sessions.values() {
        sink.change(&closed(session)).expect("never blocks");
        pushed += spans_of(session);
        // As fast as sessions end on a busy node, not as fast as a loop: the queue holds a thousand.
        if pushed - seen > 8_000 {
            seen = receiver.wait("spans", |received| received.spans.len() >= pushed - 4_000).spans.len();
        }
    }
    let received = receiver.wait("all", |got| got.spans.len() >= all && got.logs.len() >= sessions.len());
    let mut traces: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    for span in &received.spans {
        traces.entry(&span.trace_id).or_default().push(span);
    }
    assert_eq!((traces.len(), received.spans.len()), (sessions.len(), all));
    let mut compared = 0;
    for spans in traces.values() {
        let id = spans.iter().find_map(|span| texts(&span.attributes).remove("execpath.session.id")).expect("an id");
        compare(&sessions[&id], spans);
        compared += 1;
    }
    assert_eq!(compared, sessions.len());
    let of_resource = texts(&received.resources[0].attributes);
    assert_eq!((of_resource["service.name"].as_str(), of_resource["host.name"].as_str()), ("execpath", "worker"));
    let log = &received.logs[0];
    assert_eq!(log.event_name, "execpath.session.closed");
    assert!(traces.contains_key(&log.trace_id[..]), "a record belongs to its trace");
}

#[test]
fn recordings_become_traces_logs_verdicts_and_metrics() {
    let receiver = Receiver::start();
    let exporter = exporter(receiver.address);
    for name in ["exit-3", "stopped", "start-failed", "relay"] {
        feed::feed(vec![Box::new(ExportSink::of_many(&exporter))], &feed::recording(name));
    }
    exporter.drain();
    let received = receiver.wait("metrics", |received| !received.metrics.is_empty());
    let events: BTreeSet<&str> = received.logs.iter().map(|log| log.event_name.as_str()).collect();
    assert!(events.is_superset(&["execpath.session.closed", "execpath.verdict"].into()), "{events:?}");
    let verdicts = received.logs.iter().filter(|log| log.event_name == "execpath.verdict");
    assert!(verdicts.map(|log| texts(&log.attributes)).any(|of| of["execpath.verdict.code"] == "F16"));
    // The same families as at the endpoint.
    let names: BTreeSet<&str> = received.metrics.iter().map(|metric| metric.name.as_str()).collect();
    for name in ["execpath_sessions_opened", "execpath_start_seconds", "execpath_otlp_sent", "process_cpu_seconds"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    let start = received.metrics.iter().find(|metric| metric.name == "execpath_start_seconds").expect("a histogram");
    let Some(Data::Histogram(histogram)) = &start.data else { panic!("{start:?}") };
    for point in &histogram.data_points {
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert!(point.start_time_unix_nano <= point.time_unix_nano);
    }
    // Every attribute is on the page, and no other.
    let listed: BTreeSet<&str> = ATTRIBUTES.iter().map(|attribute| attribute.name).collect();
    let of_spans = received.spans.iter().flat_map(|span| {
        let links = span.links.iter().flat_map(|link| &link.attributes);
        span.attributes.iter().chain(links).chain(span.events.iter().flat_map(|event| &event.attributes))
    });
    let used = of_spans.chain(received.logs.iter().flat_map(|log| &log.attributes));
    let used: BTreeSet<&str> =
        used.chain(received.resources.iter().flat_map(|of| &of.attributes)).map(|one| one.key.as_str()).collect();
    assert!(used.is_subset(&listed), "{:?}", used.difference(&listed));
}

/// The path of a node whose client is elsewhere has a span link to an id that the client's host derives, too. No parent is invented.
#[test]
fn path_that_leaves_the_host_has_a_span_link() {
    let beyond = |side: &'static str, address: &str| Session {
        beyond: vec![(side, address.parse().expect("an address"))],
        ..session(1)
    };
    let spans = |session: &Session, boot: &str| {
        let mut header = samples::header();
        boot.clone_into(&mut header.host.boot_id);
        execpath::otlp::spans(session, &header, BootTime(0))
    };
    let node = spans(&beyond("client", "10.0.0.7:51233"), "boot of the node");
    let client = spans(&beyond("apiserver", "10.0.0.1:6443"), "boot of the client");
    assert_ne!(node[0].trace_id, client[0].trace_id, "each host has its own trace");
    assert!(node[0].parent_span_id.is_empty() && client[0].parent_span_id.is_empty());
    assert_eq!(node[0].links[0].trace_id, client[0].links[0].trace_id);
    assert_eq!(node[0].links[0].span_id, client[0].links[0].span_id);
    let of = texts(&node[0].links[0].attributes);
    assert_eq!((of["execpath.relation"].as_str(), of["network.peer.port"].as_str()), ("client-connection", "51233"));
    let merged = Session { merged_into: Some(session(2).id), ..session(1) };
    let into = spans(&session(2), "boot");
    let merged = spans(&merged, "boot");
    assert_eq!(merged[0].links[0].span_id, into[0].span_id);
}

#[test]
fn gap_is_an_event_of_the_session() {
    let mut with_gap = session(1);
    let text = "x".repeat(5_000);
    with_gap.gaps.push(execpath::model::Gap { code: GapCode::Ambiguous, between: Some((1, 2)), text });
    let spans = execpath::otlp::spans(&with_gap, &samples::header(), BootTime(0));
    let of = texts(&spans[0].events[0].attributes);
    assert_eq!((of["execpath.gap.code"].as_str(), of["execpath.gap.text"].len()), ("ambiguous", 1_024));
}

/// Counts of a signal, from a scrape of the same exporter.
fn counts(address: std::net::SocketAddr, signal: &str) -> (u64, u64) {
    let all = crate::scrape::series(&crate::scrape::get(address, "/metrics").body);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of a test")]
    let count = |name: &str| all[&format!("execpath_otlp_{name}_total{{signal=\"{signal}\"}}")] as u64;
    (count("sent"), count("dropped"))
}

/// An exporter to this receiver that also serves metrics, and the address of those.
fn counted(receiver: std::net::SocketAddr) -> (Exporter, std::net::SocketAddr) {
    let metrics = Some("127.0.0.1:0".parse().expect("an address"));
    let exporter = Exporter::new(&Options { metrics, otlp: Some(receiver.to_string()) }).expect("addresses");
    let address = exporter.address().expect("a port");
    (exporter, address)
}

/// Longest time for a thousand sessions into a queue; without a queue they would take seconds each.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Time for which the receiver is down: a minute with `EXECPATH_SOAK=1`, else no longer than the sessions take.
fn outage() -> Duration {
    Duration::from_secs(if std::env::var_os("EXECPATH_SOAK").is_some() { 60 } else { 0 })
}

#[test]
fn receiver_outage_counts_losses_exactly_and_ends() {
    let receiver = Receiver::start();
    let address = receiver.address;
    let (exporter, metrics) = counted(address);
    let mut sink = ExportSink::of_many(&exporter);
    sink.host(&samples::header()).expect("a thread");
    sink.change(&closed(&session(0))).expect("never blocks");
    let each = spans_of(&session(0)) as u64;
    receiver.wait("the first trace", |received| received.spans.len() as u64 == each);
    drop(receiver);
    // More sessions than the queue holds.
    const DOWN: u64 = 3_000;
    let (mut held_up, pause) = (Duration::ZERO, outage() / u32::try_from(DOWN).expect("a small number"));
    for number in 1..=DOWN {
        let began = Instant::now();
        sink.change(&closed(&session(number))).expect("never blocks");
        held_up += began.elapsed();
        std::thread::sleep(pause);
    }
    assert!(held_up < AT_ONCE, "the trace is held up: {held_up:?}");
    let (_, dropped) = counts(metrics, "traces");
    assert!(dropped > 0 && dropped % each == 0, "whole sessions are dropped: {dropped}");
    let receiver = Receiver::at(address);
    let kept = DOWN * each - dropped;
    let received = receiver.wait("the queue", |received| received.spans.len() as u64 >= kept);
    assert_eq!(received.spans.len() as u64, kept, "what was not dropped arrives once");
    sink.finish(&execpath::model::Report { totals: Totals::default(), ..Default::default() }).expect("an end");
    exporter.drain();
    assert_eq!(counts(metrics, "traces"), (kept + each, dropped));
    let (sent, dropped) = counts(metrics, "logs");
    assert_eq!(sent + dropped, DOWN + 1);
}

#[test]
fn slow_receiver_holds_up_neither_trace_nor_end() {
    let receiver = Receiver::start();
    receiver.stick();
    let (exporter, metrics) = counted(receiver.address);
    let mut sink = ExportSink::of_many(&exporter);
    sink.host(&samples::header()).expect("a thread");
    sink.change(&closed(&session(0))).expect("never blocks");
    receiver.wait("a call that waits", |received| received.calls > 0);
    let began = Instant::now();
    for number in 1..3_000 {
        sink.change(&closed(&session(number))).expect("never blocks");
    }
    assert!(counts(metrics, "traces").1 > 0, "the queue is bounded");
    exporter.drain();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[test]
fn refused_messages_are_counted_and_not_sent_again() {
    let receiver = Receiver::start();
    receiver.refuse();
    let (exporter, metrics) = counted(receiver.address);
    let mut sink = ExportSink::of_many(&exporter);
    sink.host(&samples::header()).expect("a thread");
    sink.change(&closed(&session(0))).expect("never blocks");
    exporter.drain();
    let each = spans_of(&session(0)) as u64;
    assert_eq!(counts(metrics, "traces"), (0, each));
    assert_eq!(counts(metrics, "logs"), (0, 1));
    let received = receiver.wait("calls", |received| received.calls >= 3);
    assert_eq!((received.calls, received.spans.len()), (3, 0), "one call for each signal");
}

#[test]
fn partly_refused_message_is_counted_in_parts() {
    let receiver = Receiver::start();
    receiver.refuse_one();
    let (exporter, metrics) = counted(receiver.address);
    let mut sink = ExportSink::of_many(&exporter);
    sink.host(&samples::header()).expect("a thread");
    sink.change(&closed(&session(0))).expect("never blocks");
    exporter.drain();
    assert_eq!(counts(metrics, "traces"), (spans_of(&session(0)) as u64 - 1, 1));
}

#[test]
fn address_of_the_receiver_is_checked() {
    let wrong = |text: &str| match Exporter::new(&Options { otlp: Some(text.into()), ..Options::default() }) {
        Err(ExportError::Receiver(_, error)) => error.to_string(),
        Err(ExportError::Listen(..)) => panic!("{text}: it is not listened on"),
        Ok(_) => panic!("{text} is taken"),
    };
    assert!(wrong("https://127.0.0.1:4317").contains("TLS"));
    assert!(wrong("grpc://127.0.0.1").contains("only http://"));
    assert!(wrong("").contains("HOST:PORT"));
    wrong("host.invalid:4317");
    for text in ["127.0.0.1:4317", "http://localhost:4317", "[::1]:4317", "127.0.0.1", "localhost"] {
        assert!(Exporter::new(&Options { otlp: Some(text.into()), ..Options::default() }).is_ok(), "{text}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let metrics = taken.local_addr().ok();
    assert!(matches!(Exporter::new(&Options { metrics, ..Options::default() }), Err(ExportError::Listen(..))));
}
