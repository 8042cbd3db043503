//! A log that grows, rotates, is truncated, and holds false lines.

use std::{fmt::Write as _, fs, io::Write as _};

use super::*;
use crate::model::RawText;

const ANCHOR: ClockAnchor = ClockAnchor { boot_to_utc_ns: 1_795_299_200_000_000_000 };
const NOW: BootTime = BootTime(100_000_000_000);

/// A line of kube-apiserver at this second.
fn line(id: &str, user: &str, stage: &str, second: u32) -> String {
    let uri = r"/api/v1/namespaces/default/pods/web/exec?command=sh\u0026command=-c\u0026command=a+%26b%ff%2\u0026container=web\u0026stdin=true\u0026tty=false";
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{id}","stage":"{stage}","requestURI":"{uri}","verb":"create","user":{{"username":"{user}","groups":["lab","system:authenticated"]}},"sourceIPs":["1.2.3.4","x","::ffff:10.0.0.1"],"userAgent":"kubectl/v1.33","objectRef":{{"resource":"pods","namespace":"default","name":"web","apiVersion":"v1","subresource":"exec"}},"responseStatus":{{"metadata":{{}},"code":101}},"requestReceivedTimestamp":"2026-11-21T22:14:{second:02}.123456Z","stageTimestamp":"2026-11-21T22:14:{second:02}.200000Z","annotations":{{"authorization.k8s.io/decision":"allow"}}}}"#
    ) + "\n"
}

fn other() -> String {
    r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"o","stage":"ResponseComplete","requestURI":"/api/v1/pods"}"#.to_owned() + "\n"
}

/// Id and user of each event; other facts by name.
fn summary(facts: &[Fact]) -> Vec<String> {
    let name = |fact: &Fact| {
        let Fact::Audited(event) = fact else { return format!("{fact:?}") };
        format!("{} {}{}", event.id, event.user.name, if event.over { " over" } else { "" })
    };
    facts.iter().map(name).collect()
}

struct Log {
    _folder: tempfile::TempDir,
    path: PathBuf,
    log: AuditLog,
}

impl Log {
    fn with(text: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        fs::write(&path, text).unwrap();
        Self { log: AuditLog::open(&path).unwrap(), path, _folder: folder }
    }

    fn begin(&mut self) -> Vec<String> {
        summary(&self.log.begin(NOW, ANCHOR).unwrap())
    }

    fn append(&self, text: &str) {
        OpenOptions::new().append(true).create(true).open(&self.path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn poll(&mut self) -> Vec<String> {
        summary(&self.log.poll(ANCHOR))
    }
}

#[test]
fn line_parses_to_request() {
    let mut log = Log::with(line("a", "alice", "RequestReceived", 3).as_bytes());
    let facts = log.log.begin(NOW, ANCHOR).unwrap();
    let Fact::Audited(event) = &facts[0] else { panic!("{facts:?}") };
    assert_eq!(event.received, BootTime(43_123_456_000));
    assert_eq!(event.written, BootTime(43_200_000_000));
    assert_eq!((event.code, event.over, event.older), (Some(101), false, true));
    assert_eq!(event.sources, ["1.2.3.4", "10.0.0.1"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
    assert_eq!(event.user.groups, ["lab", "system:authenticated"]);
    assert_eq!(event.user.agent.as_deref(), Some("kubectl/v1.33"));
    let request = &event.request;
    assert_eq!((request.namespace.as_str(), request.pod.as_str()), ("default", "web"));
    assert_eq!((request.container.as_deref(), request.stdin, request.tty), (Some("web"), true, false));
    assert_eq!(request.command, [&b"sh"[..], b"-c", b"a &b\xff%2"].map(RawText::from));
    assert_eq!(facts[1], Fact::AuditFollowed);
}

#[test]
fn start_omits_ended_requests_and_keeps_partial_line() {
    let text = [line("a", "alice", "RequestReceived", 1), line("b", "bob", "ResponseStarted", 2)].concat();
    let text =
        text + &line("a", "alice", "ResponseComplete", 1) + &other() + &line("c", "carol", "RequestReceived", 4)[..90];
    let mut log = Log::with(text.as_bytes());
    assert_eq!(log.begin(), ["b bob", "AuditFollowed"]);
    assert_eq!(log.poll(), [""; 0]);
    log.append(&line("c", "carol", "RequestReceived", 4)[90..200]);
    assert_eq!(log.poll(), [""; 0]);
    log.append(&line("c", "carol", "RequestReceived", 4)[200..]);
    log.append(&line("b", "bob", "ResponseComplete", 2));
    assert_eq!(log.poll(), ["c carol", "b bob over"]);
}

#[test]
fn poll_before_start_reads_nothing() {
    let mut log = Log::with((line("open", "alice", "ResponseStarted", 50) + &other()).as_bytes());
    // A start under load takes in records before the log, and polls between them.
    assert_eq!(log.poll(), [""; 0]);
    assert_eq!(log.begin(), ["open alice", "AuditFollowed"]);
    assert_eq!(log.poll(), [""; 0]);
}

#[test]
fn rotation_reads_old_file_to_end_then_new_file() {
    let mut log = Log::with(b"");
    assert_eq!(log.begin(), ["AuditFollowed"]);
    log.append(&line("a", "alice", "RequestReceived", 1));
    fs::rename(&log.path, log.path.with_extension("1")).unwrap();
    assert_eq!(log.poll(), ["a alice"], "there is no new one yet");
    OpenOptions::new()
        .append(true)
        .open(log.path.with_extension("1"))
        .unwrap()
        .write_all(line("b", "bob", "RequestReceived", 1).as_bytes())
        .unwrap();
    log.append(&line("c", "carol", "RequestReceived", 1));
    assert_eq!(log.poll(), ["b bob"]);
    assert_eq!(log.poll(), ["c carol"]);
    fs::remove_file(&log.path).unwrap();
    assert_eq!(log.poll(), [""; 0]);
    log.append(&line("d", "dora", "RequestReceived", 1));
    log.poll();
    assert_eq!(log.poll(), ["d dora"]);
}

#[test]
fn truncation_restarts_reading() {
    let mut log = Log::with(line("a", "alice", "RequestReceived", 1).as_bytes());
    log.begin();
    log.append(&line("b", "bob", "RequestReceived", 1)[..400]);
    assert_eq!(log.poll(), [""; 0]);
    fs::write(&log.path, line("c", "carol", "RequestReceived", 1)).unwrap();
    assert_eq!(log.poll(), ["c carol", "AuditSkipped { count: 1 }"], "what was begun is told to be missed");
}

#[test]
fn malformed_lines_are_counted_and_skipped() {
    let good = line("a", "alice", "RequestReceived", 1);
    let bad = [
        good.replace("audit.k8s.io/v1", "other/v1"),
        good.replace("2026-11-21", "2026-13-41"),
        good.replace("\"alice\"", &format!("\"{}\"", "x".repeat(2_000))),
        good.replace("\"kind\"", "\"sort\""),
        good[..good.len() / 2].to_owned() + "\n",
        format!("{}\n", "[".repeat(100_000) + r#""subresource":"exec""#),
    ];
    let mut log = Log::with(b"");
    log.begin();
    for line in &bad {
        log.append(line);
    }
    // Other requests may be long, and do not count.
    log.append(&format!("{{\"x\":\"{}\"}}\n", "x".repeat(MAX_LINE)));
    log.append(&format!("{{\"requestURI\":\"/api/v1/namespaces/a/pods/b/exec?{}\"}}\n", "x".repeat(MAX_LINE)));
    log.append(&good);
    OpenOptions::new().append(true).open(&log.path).unwrap().write_all(b"\xff\x00\"subresource\":\"exec\"\n").unwrap();
    assert_eq!(log.poll(), ["a alice", "AuditSkipped { count: 8 }"]);
}

#[test]
fn hostile_texts_are_bounded_and_kept() {
    let good = line("a", "alice", "RequestReceived", 1);
    let words = (0..200).fold(String::new(), |mut words, n| {
        write!(words, "command={n}\\u0026").unwrap();
        words
    });
    let hostile = good
        .replace("\"alice\"", r#""\u001b[31m\u202eecila""#)
        .replace("\"lab\"", &format!("\"{}\"", "é".repeat(1_000)))
        .replace("command=sh", &words)
        .replace("container=web", "container=%ff")
        .replace("\"::ffff:10.0.0.1\"", "\"nowhere\"")
        .replace("\"code\":101", "\"code\":-1");
    let mut log = Log::with(b"");
    log.begin();
    log.append(&hostile);
    let facts = log.log.poll(ANCHOR);
    let Fact::Audited(event) = &facts[0] else { panic!("{facts:?}") };
    assert_eq!(event.user.name, "\u{1b}[31m\u{202e}ecila");
    assert_eq!(event.user.groups[0], "é".repeat(128));
    assert_eq!((event.request.command.len(), event.request.command_truncated), (64, true));
    assert_eq!((event.request.container.as_ref(), event.code), (None, None));
    assert_eq!(event.sources, [] as [std::net::IpAddr; 0], "what the API server saw is not known");
}

#[test]
fn only_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for path in [folder.path(), &fifo, Path::new("/dev/zero"), &folder.path().join("none")] {
        assert!(AuditLog::open(path).is_err(), "{}", path.display());
    }
}

#[test]
fn start_reads_end_of_large_log() {
    let mut log = Log::with(b"");
    // An empty line, and a line that the full disk cut.
    OpenOptions::new().write(true).open(&log.path).unwrap().set_len(1 << 30).unwrap();
    log.append("\n");
    log.append(&line("a", "alice", "RequestReceived", 1));
    assert_eq!(log.begin(), ["a alice", "AuditFollowed"]);
    assert!(log.log.line.capacity() <= 4 * MAX_LINE);
}
