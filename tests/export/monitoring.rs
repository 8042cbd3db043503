//! Alert rules and dashboard of `packaging/monitoring`, with the programs that read them: promtool and Prometheus.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use execpath::{
    diagnose::FAULTS,
    export::ExportSink,
    metrics::{FAMILIES, Shape},
    model::Severity,
};
use serde_json::Value;

use crate::{feed, scrape::send};

/// Longest wait for Prometheus to start and scrape, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/monitoring")
}

/// True if this program of Debian's package `prometheus` is there; else says that the test is skipped.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success());
    if !found {
        eprintln!("skipped: {program} is missing: apt-get install prometheus");
    }
    found
}

#[test]
fn promtool_accepts_and_tests_the_rules() {
    if !has("promtool") {
        return;
    }
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let ran = Command::new("promtool").args(arguments).current_dir(folder()).output().expect("it runs");
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{said}");
    }
}

/// Names in a text that look like names of metrics of execpath.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("execpath_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_of_the_table() {
    let mut known = BTreeSet::new();
    for family in FAMILIES {
        known.insert(family.shown());
        if matches!(family.shape, Shape::Histogram(_)) {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", family.name)));
            // Named as a whole in texts.
            known.insert(family.name.to_owned());
        }
    }
    for file in ["alerts.yaml", "alerts.test.yaml", "dashboard.json"] {
        let text = fs::read_to_string(folder().join(file)).expect("a file");
        let named = names(&text);
        assert!(named.len() > 5, "{file}: {named:?}");
        let unknown: Vec<&String> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn alert_leaves_out_verdicts_that_are_information() {
    let information = FAULTS.iter().filter(|fault| fault.severity == Severity::Info);
    let mut codes: Vec<&str> = information.map(|fault| fault.code).collect();
    codes.sort_unstable();
    let wanted = format!("execpath_verdicts_active{{code!~\"{}\"}}", codes.join("|"));
    let rules = fs::read_to_string(folder().join("alerts.yaml")).expect("a file");
    assert!(rules.contains(&wanted), "{wanted}");
}

#[test]
fn every_panel_of_the_dashboard_has_queries() {
    let text = fs::read_to_string(folder().join("dashboard.json")).expect("a file");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 10);
    for panel in panels {
        let targets = panel["targets"].as_array().expect("queries");
        assert!(targets.iter().all(|target| target["expr"].as_str().is_some_and(|text| text.contains("_"))), "{panel}");
    }
}

/// A Prometheus that scrapes one target, killed on drop.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: execpath\n    static_configs: [{{ targets: ['{target}'] }}]\n",
            folder().join("alerts.yaml").canonicalize().expect("the rules").display()
        );
        fs::write(data.path().join("prometheus.yaml"), config).expect("there is room");
        // Prometheus does not report the port it chose.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let child = Command::new("prometheus")
            .current_dir(data.path())
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--enable-feature=exemplar-storage"])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        Self { child, address, _folder: data }
    }

    /// Data of a query of its API, once it satisfies `is_there`.
    fn wait(&mut self, path: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        while Instant::now() < end {
            assert!(self.child.try_wait().expect("a child").is_none(), "Prometheus ended");
            if std::net::TcpStream::connect(self.address).is_ok() {
                let answer = send(self.address, &format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n"));
                last = serde_json::from_str::<Value>(&answer.body).map_or(Value::Null, |all| all["data"].clone());
                if is_there(&last) {
                    return last;
                }
            }
            // Between two questions to another program.
            std::thread::park_timeout(Duration::from_millis(200));
        }
        panic!("{path}: {last}");
    }
}

#[test]
fn prometheus_scrapes_numbers_exemplars_and_alerts() {
    if !has("prometheus") {
        return;
    }
    let exporter = feed::exporter();
    let target = exporter.address().expect("a port");
    feed::feed(vec![Box::new(ExportSink::of(&exporter))], &feed::recording("exit-3"));
    feed::feed_to_fault(vec![Box::new(ExportSink::of(&exporter))], &feed::recording("stopped"), "F16");
    let mut prometheus = Prometheus::scraping(target);
    let value = |data: &Value| data["result"][0]["value"][1].as_str().map(str::to_owned);
    let ended = "/api/v1/query?query=execpath_sessions_ended_total%7Boutcome=%22failure%22%7D";
    prometheus.wait(ended, |data| value(data).as_deref() == Some("1"));
    let up = prometheus.wait("/api/v1/query?query=up%7Bjob=%22execpath%22%7D", |data| value(data).is_some());
    assert_eq!(value(&up).as_deref(), Some("1"), "the whole scrape is well-formed");
    let exemplars = "/api/v1/query_exemplars?query=execpath_start_seconds_bucket&start=0&end=9999999999";
    let found = prometheus.wait(exemplars, |data| data.as_array().is_some_and(|all| !all.is_empty()));
    let session = found[0]["exemplars"][0]["labels"]["session"].as_str().expect("a label");
    assert!(session.starts_with("s-"), "{session}");
    // The fault of the recording starts the alert's wait of a minute.
    let is_pending = |data: &Value| {
        let alerts = data["alerts"].as_array().into_iter().flatten();
        let mut labels = alerts.map(|alert| &alert["labels"]);
        labels.any(|labels| labels["alertname"] == "ExecpathSessionFault" && labels["code"] == "F16")
    };
    prometheus.wait("/api/v1/alerts", is_pending);
    let rules = prometheus.wait("/api/v1/rules", |data| {
        let groups = data["groups"].as_array().into_iter().flatten();
        let mut rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.all(|rule| rule["health"] == "ok")
    });
    assert_eq!(rules["groups"][0]["rules"].as_array().map(Vec::len), Some(7));
}
