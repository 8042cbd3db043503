//! Recordings rewritten for other hosts, and the part of a session that is independent of the recording host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use execpath::{
    model::{Move, Observation, Span},
    record::{Header, Reader, RecordTarget, Writer},
};
use serde_json::{Value, json};

/// Another host, with a clock of its own.
#[derive(Clone, Copy, Debug)]
pub struct OtherHost {
    /// Name of the host.
    pub hostname: &'static str,
    /// Lead of its boot clock: it booted earlier by this time.
    pub boot_lead: Span,
    /// Lead of its UTC clock.
    pub utc_lead: Span,
}

impl OtherHost {
    /// Rewrites a recording as if made on this host. Returns the new file in `folder`.
    ///
    /// # Panics
    /// If a recording cannot be read or written.
    pub fn record(&self, recording: &Path, folder: &Path) -> PathBuf {
        let mut reader = Reader::open(recording).expect("a recording");
        let mut header = reader.header().clone();
        self.hostname.clone_into(&mut header.host.hostname);
        header.host.boot_id = format!("boot of {}", self.hostname);
        let anchor = &mut header.anchor.boot_to_utc_ns;
        *anchor = *anchor - self.boot_lead.0 + self.utc_lead.0;
        let to = Move { later: self.boot_lead, ..Move::default() };
        write(&folder.join(format!("{}.jsonl.zst", self.hostname)), &header, reader.by_ref(), |seen| seen.move_to(to))
    }
}

/// Rewrites a recording for another cluster: addresses and ids from runtimes differ, those from kernels are equal.
///
/// # Panics
/// If a recording cannot be read or written.
pub fn another_cluster(recording: &Path, boot_id: &str, folder: &Path) -> PathBuf {
    let mut reader = Reader::open(recording).expect("a recording");
    let mut header = reader.header().clone();
    boot_id.clone_into(&mut header.host.boot_id);
    boot_id.clone_into(&mut header.host.hostname);
    write(&folder.join("another.jsonl.zst"), &header, reader.by_ref(), |seen| {
        let text = serde_json::to_string(&seen).expect("an observation is JSON");
        let text = other_ids(&text).replace("192.168.205.", "192.168.206.");
        *seen = serde_json::from_str(&text).expect("still an observation");
    })
}

/// Changes each digit of ids with 64 hexadecimal digits.
fn other_ids(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for run in bytes.chunk_by_mut(|a, b| a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) {
        if run.len() == 64 {
            for digit in run {
                *digit = match digit {
                    b'0'..=b'8' | b'a'..=b'e' => *digit + 1,
                    b'9' => b'a',
                    _ => b'0',
                };
            }
        }
    }
    String::from_utf8(bytes).expect("digits are ASCII")
}

fn write(
    path: &Path,
    header: &Header,
    seen: impl Iterator<Item = Observation>,
    change: impl Fn(&mut Observation),
) -> PathBuf {
    if path.exists() {
        fs::remove_file(path).expect("the old file can be removed");
    }
    let mut writer =
        Writer::begin(RecordTarget::create(path).expect("a file"), header).expect("the recording can be written");
    for mut seen in seen {
        change(&mut seen);
        writer.write(&seen).expect("the recording can be written");
    }
    writer.finish().expect("the recording can be written");
    path.to_owned()
}

/// Part of a session's JSON that is equal for every recording host: processes, connections, links and gaps. Times
/// differ, because each tracer reads them itself; so do host names.
#[must_use]
pub fn essence(session: &Value) -> Value {
    let pick = |value: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), value[*name].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    let list = |name: &str| session[name].as_array().cloned().unwrap_or_default();
    let hops: Vec<Value> =
        list("hops").iter().map(|hop| pick(hop, &["role", "pid", "comm", "argv", "netns"])).collect();
    let link = |link: &Value| {
        json!({
            "what": pick(link, &["from", "to", "kind", "confidence", "evidence", "persistent"]),
            "tcp": pick(&link["tcp"], &["local", "remote", "inode", "peer_inode"]),
            "unix": pick(&link["unix"], &["path", "inode", "peer_inode"]),
            "relay": pick(&link["relay"], &["inbound_inode", "outbound_inode"]),
        })
    };
    json!({
        "what": pick(session, &["kind", "state", "command", "complete", "confidence", "exit", "gaps", "beyond", "exec_id"]),
        "into": pick(session, &["namespace", "pod", "container", "container_id"]),
        "hops": hops,
        "links": list("links").iter().map(link).collect::<Vec<_>>(),
    })
}
