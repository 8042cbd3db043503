//! A session as reported by `-o jsonl`.

use std::{net::SocketAddr, time::Duration};

use humantime::parse_rfc3339;
use serde_json::Value;

/// The reported JSON object of a session.
#[derive(Clone)]
pub(crate) struct ReportedSession(pub(crate) Value);

/// A TCP link, with the pids of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) inode: u64,
    pub(crate) peer_inode: u64,
}

/// Hops of a session through containerd, from kubectl to the process.
pub(crate) const COMPLETE_PATH: [&str; 7] = ["kubectl", "apiserver", "kubelet", "runtime", "shim", "runc", "process"];

/// Short enough for the message of a failed test.
impl std::fmt::Debug for ReportedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut value = self.0.clone();
        for hop in value["hops"].as_array_mut().into_iter().flatten() {
            *hop = format!("{} {}", hop["role"], hop["pid"]).into();
        }
        for link in value["links"].as_array_mut().into_iter().flatten() {
            let (local, remote) = (&link["tcp"]["local"], &link["tcp"]["remote"]);
            *link = format!("{}-{} {} {local} {remote}", link["from"], link["to"], link["kind"]).into();
        }
        write!(f, "{value}")
    }
}

impl ReportedSession {
    /// The session of a line, if the line has one.
    pub(crate) fn of(line: &Value) -> Option<Self> {
        line.get("session").filter(|session| session.is_object()).cloned().map(Self)
    }

    pub(crate) fn id(&self) -> &str {
        self.0["id"].as_str().expect("an id")
    }

    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer).and_then(Value::as_str)
    }

    pub(crate) fn command(&self) -> Vec<&str> {
        self.0["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// True if the command has this mark, or kubectl's command where the session has none: a command that failed to
    /// start has no argv of its own.
    pub(crate) fn has(&self, mark: &str) -> bool {
        let client = self.hop("kubectl").and_then(|hop| hop["argv"].as_array()).into_iter().flatten();
        let words: Vec<&str> = self.command();
        let words = if words.is_empty() { client.filter_map(Value::as_str).collect() } else { words };
        words.iter().any(|word| word.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == mark))
    }

    /// True if another user of this machine runs that kubectl: its arguments contain the reported command, but no mark
    /// of this run.
    pub(crate) fn is_anothers(&self) -> bool {
        let argv = self.hop("kubectl").and_then(|hop| hop["argv"].as_array()).into_iter().flatten();
        let argv: Vec<&str> = argv.filter_map(Value::as_str).collect();
        let asked = argv.iter().position(|word| *word == "--").and_then(|at| argv.get(at + 1..));
        let ours = format!("mark-{}-", std::process::id());
        asked.is_some_and(|asked| asked == self.command()) && !argv.iter().any(|word| word.contains(&ours))
    }

    /// True if the runtime was already starting this exec at attach: its kind is then reported as unknown. The lab's
    /// own probes cause such sessions at any time.
    pub(crate) fn was_under_way(&self) -> bool {
        let gaps = self.0["gaps"].as_array().into_iter().flatten();
        let mut unknown = gaps.filter(|gap| gap["code"] == "kind-unknown").filter_map(|gap| gap["text"].as_str());
        unknown.any(|text| text.contains("was starting when the tracer attached"))
    }

    /// Id of the session that this one became a part of.
    pub(crate) fn merged_into(&self) -> Option<&str> {
        self.text("/merged_into")
    }

    /// True for a provisional session of a waiting kubectl that later became part of its full session. Busy machines
    /// have such sessions. The tracer reports them two seconds after kubectl's start at the earliest.
    pub(crate) fn was_waited_for(&self) -> bool {
        const NO_SOONER: Duration = Duration::from_secs(2);
        let time = |text: Option<&str>| text.and_then(|text| parse_rfc3339(text).ok());
        let began = time(self.text("/hops/0/started_at"));
        let reported = time(self.text("/closed_at"));
        let waited = began.zip(reported).and_then(|(began, reported)| reported.duration_since(began).ok());
        let is_alone = self.roles().first() == Some(&"kubectl") && self.hop("runtime").is_none();
        self.merged_into().is_some() && is_alone && waited.is_some_and(|waited| waited >= NO_SOONER)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.0["complete"] == true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0["state"] == "closed"
    }

    pub(crate) fn hops(&self) -> &[Value] {
        self.0["hops"].as_array().expect("hops")
    }

    pub(crate) fn roles(&self) -> Vec<&str> {
        self.hops().iter().filter_map(|hop| hop["role"].as_str()).collect()
    }

    pub(crate) fn hop(&self, role: &str) -> Option<&Value> {
        self.hops().iter().find(|hop| hop["role"] == role)
    }

    pub(crate) fn pid(&self, role: &str) -> Option<u32> {
        self.hop(role)?["pid"].as_u64()?.try_into().ok()
    }

    pub(crate) fn links(&self) -> &[Value] {
        self.0["links"].as_array().expect("links")
    }

    /// TCP links, from client to process.
    pub(crate) fn legs(&self) -> Vec<Leg> {
        let pid = |index: &Value| {
            let hop = index.as_u64().and_then(|index| usize::try_from(index).ok()).and_then(|at| self.hops().get(at));
            hop.and_then(|hop| hop["pid"].as_u64()).and_then(|pid| u32::try_from(pid).ok()).expect("a hop")
        };
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).expect("an address");
        let inode = |value: &Value| value.as_u64().expect("an inode");
        let legs = self.links().iter().filter(|link| link["kind"] == "tcp");
        legs.map(|link| Leg {
            from: pid(&link["from"]),
            to: pid(&link["to"]),
            local: address(&link["tcp"]["local"]),
            remote: address(&link["tcp"]["remote"]),
            inode: inode(&link["tcp"]["inode"]),
            peer_inode: inode(&link["tcp"]["peer_inode"]),
        })
        .collect()
    }

    /// Exit `code`, `signal` and `reason`.
    pub(crate) fn exit(&self) -> (Option<u64>, Option<u64>, &str) {
        let exit = &self.0["exit"];
        (exit["code"].as_u64(), exit["signal"].as_u64(), exit["reason"].as_str().unwrap_or("none"))
    }

    pub(crate) fn gaps(&self) -> Vec<&str> {
        self.0["gaps"].as_array().into_iter().flatten().filter_map(|gap| gap["code"].as_str()).collect()
    }
}
