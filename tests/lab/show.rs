//! Checks every number of `show` against `ss` and /proc. Shares no code with execpath.
//!
//! Both sources are read before and after `show`. A number that is equal in both readings must be the number shown;
//! otherwise the number shown must lie between them. The session is quiet, so no number moves and comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use execpath_tests::binary;
use serde_json::{Value, json};

use crate::{
    env::{lab, on, output, wait_until},
    kubectl::{Exec, Kubectl, Mode, mark},
    reported::ReportedSession,
};

/// Milliseconds without a byte sent or received before an end counts as quiet.
const QUIET: u64 = 100;
/// Resolution in milliseconds of the kernel clock behind ages: a jiffy, at 100 Hz.
const JIFFY: u64 = 10;

/// One end of a TCP connection as `ss -tnpeoi` shows it: its numbers, and the ages of its last events in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    numbers: BTreeMap<&'static str, u64>,
    state: &'static str,
    timer: Option<(&'static str, u64)>,
    sent_ago: u64,
    received_ago: u64,
    /// Milliseconds until the timer fires, at the resolution of `ss`, and that resolution.
    expires: Option<(u64, u64)>,
}

/// Readings of `ss` at one moment.
struct Readings {
    /// TCP ends by inode.
    tcp: BTreeMap<u64, End>,
    /// Receive and send queues by inode.
    unix: BTreeMap<u64, (u64, u64)>,
    /// Start and end of the reading.
    taken: (Instant, Instant),
}

impl Readings {
    fn take() -> Self {
        let begun = Instant::now();
        let each =
            |options: &str| lab().netns.keys().map(|host| output(on(host, "ss").arg(options))).collect::<String>();
        let tcp = each("-tanpeoiOH").lines().filter_map(tcp_end).collect();
        let unix = each("-xnH").lines().filter_map(unix_end).collect();
        Self { tcp, unix, taken: (begun, Instant::now()) }
    }

    /// True if nothing was sent or received between two readings at the ends with these inodes: every age grew by the
    /// elapsed time.
    fn is_quiet_until(&self, later: &Self, inodes: &BTreeSet<u64>) -> bool {
        let passed = millis_of(later.taken.0.duration_since(self.taken.1));
        let grew = |one: u64, other: u64| one >= QUIET && other + JIFFY >= one + passed;
        inodes.iter().all(|inode| match (self.tcp.get(inode), later.tcp.get(inode)) {
            (Some(one), Some(other)) => {
                let older = grew(one.sent_ago, other.sent_ago) && grew(one.received_ago, other.received_ago);
                let same = (one.state, one.timer) == (other.state, other.timer);
                same && older && one.expires.map(|it| it.0) >= other.expires.map(|it| it.0)
            }
            (None, None) => self.unix.get(inode) == later.unix.get(inode),
            _ => false,
        })
    }
}

fn millis_of(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).expect("a short time")
}

/// Checks that a number shown between two readings lies between them.
#[track_caller]
fn lies_between(shown: u64, early: u64, late: u64, what: &str) {
    assert!((early.min(late)..=early.max(late)).contains(&shown), "{what}: {shown}, not {early} to {late}");
}

/// A number of `ss -i`: `name:number`, before any `/`. `ss` omits zeros.
fn detail(line: &str, name: &str) -> Option<f64> {
    let text = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'))?;
    text.split('/').next()?.parse().ok()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers as ss prints them, never below 0")]
fn thousandths(number: f64) -> u64 {
    (number * 1_000.0).round() as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers as ss prints them")]
fn whole(line: &str, name: &str) -> u64 {
    detail(line, name).unwrap_or(0.0) as u64
}

fn tcp_end(line: &str) -> Option<(u64, End)> {
    let mut words = line.split_whitespace();
    let state = match words.next()? {
        "ESTAB" => "ESTABLISHED",
        "CLOSE-WAIT" => "CLOSE-WAIT",
        _ => return None,
    };
    let (recv_q, send_q) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let inode = line.split(" ino:").nth(1)?.split_whitespace().next()?.parse().ok()?;
    let timer = line.split("timer:(").nth(1).and_then(|rest| rest.split(')').next());
    let timer: Option<Vec<&str>> = timer.map(|text| text.split(',').collect());
    let (timer, expires) = match timer.as_deref() {
        Some([kind, expires, retries]) => {
            let kind = match *kind {
                "on" => "retransmit",
                "persist" => "probe",
                "keepalive" => "keepalive",
                _ => "time-wait",
            };
            (Some((kind, retries.parse().ok()?)), Some(millis(expires)?))
        }
        _ => (None, None),
    };
    let retransmits = line.split("retrans:").nth(1).and_then(|rest| rest.split(['/', ' ']).nth(1)?.parse().ok());
    let numbers = BTreeMap::from([
        ("recv_q", recv_q),
        ("send_q", send_q),
        ("rtt_us", thousandths(detail(line, "rtt")?)),
        ("rto_us", thousandths(detail(line, "rto")?)),
        ("backoff", whole(line, "backoff")),
        ("retransmits", retransmits.unwrap_or(0)),
        ("unacked", whole(line, "unacked")),
        ("not_sent", whole(line, "notsent")),
        ("send_window", whole(line, "snd_wnd")),
        ("bytes_acked", whole(line, "bytes_acked")),
        ("bytes_received", whole(line, "bytes_received")),
    ]);
    let (sent_ago, received_ago) = (whole(line, "lastsnd"), whole(line, "lastrcv"));
    Some((inode, End { numbers, state, timer, sent_ago, received_ago, expires }))
}

/// `2min5sec`, `14sec`, `9.120ms`, `204ms` (iproute2, misc/ss.c: `print_ms_timer`): values from one second on are
/// truncated.
fn millis(text: &str) -> Option<(u64, u64)> {
    let (minutes, rest) = text.split_once("min").unwrap_or(("0", text));
    let minutes: u64 = minutes.parse().ok()?;
    if minutes > 9 {
        return Some((minutes * 60_000, 60_000));
    }
    let (seconds, millis, coarse) = match (rest.strip_suffix("sec"), rest.strip_suffix("ms")) {
        (Some(seconds), _) => (seconds.parse().ok()?, 0, 1_000),
        (None, Some(rest)) => match rest.split_once('.') {
            Some((seconds, millis)) => (seconds.parse().ok()?, millis.parse().ok()?, 1),
            None => (0, rest.parse().ok()?, 1),
        },
        (None, None) => (0, 0, 1_000),
    };
    Some((minutes * 60_000 + seconds * 1_000 + millis, coarse))
}

fn unix_end(line: &str) -> Option<(u64, (u64, u64))> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // Name and inode of this end, then of the peer.
    Some((words.get(5)?.parse().ok()?, (words.get(2)?.parse().ok()?, words.get(3)?.parse().ok()?)))
}

/// The session with this mark, from `show -o json`.
fn shown(mark: &str) -> Option<ReportedSession> {
    let list = |arguments: &[&str]| -> Vec<Value> {
        let output = binary::command().args(arguments).output().expect("execpath starts");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let id =
        list(&["ls", "-o", "json"]).into_iter().map(ReportedSession).find(|session| session.has(mark))?.id().to_owned();
    list(&["show", &id, "-o", "json"]).into_iter().map(ReportedSession).next()
}

/// Inodes of both ends of every connection of a session, including shared connections.
fn inodes(session: &ReportedSession) -> BTreeSet<u64> {
    let ends = session.links().iter().flat_map(|link| {
        let of = |kind: &str| [link[kind]["inode"].as_u64(), link[kind]["peer_inode"].as_u64()];
        of("tcp").into_iter().chain(of("unix"))
    });
    ends.flatten().collect()
}

/// Checks the numbers of one end of a TCP link. Returns their count.
fn is_end(shown: &Value, inode: &Value, before: &Readings, after: &Readings) -> u64 {
    let inode = inode.as_u64().expect("an inode");
    let (early, late) = (&before.tcp[&inode], &after.tcp[&inode]);
    assert_eq!(shown["state"], early.state, "{shown}");
    let names = ["rtt_us", "rto_us", "backoff", "retransmits", "unacked", "not_sent", "send_window"];
    for name in names {
        let number = shown[name].as_u64().expect("a number");
        lies_between(number, early.numbers[name], late.numbers[name], &format!("{name} of inode {inode}"));
    }
    for (name, low, high) in
        [("last_sent_ms", early.sent_ago, late.sent_ago), ("last_received_ms", early.received_ago, late.received_ago)]
    {
        let millis = shown[name].as_u64().expect("milliseconds");
        assert!((low..=high).contains(&millis), "{name} of inode {inode}: {millis}, not {low} to {high}");
    }
    let timer = &shown["timer"];
    match (early.timer, early.expires.zip(late.expires)) {
        (Some((kind, retries)), Some(((high, coarse), (low, _)))) => {
            assert_eq!((&timer["kind"], &timer["retries"]), (&json!(kind), &json!(retries)), "inode {inode}");
            let millis = timer["expires_ms"].as_u64().expect("milliseconds");
            assert!((low..high + coarse).contains(&millis), "inode {inode} fires in {millis} ms, not {low} to {high}");
        }
        _ => assert_eq!(*timer, Value::Null, "inode {inode}"),
    }
    7 + 2 + 1
}

/// Compares every number of the session. Returns their count.
fn is_right(session: &ReportedSession, before: &Readings, after: &Readings) -> u64 {
    let mut compared = 0;
    let number = |inode: &Value, name: &str, of: &Readings| of.tcp[&inode.as_u64().expect("an inode")].numbers[name];
    let is_number = |shown: &Value, inode: &Value, name: &str| {
        let (early, late) = (number(inode, name, before), number(inode, name, after));
        lies_between(shown.as_u64().expect("a number"), early, late, &format!("{name} of inode {inode}"));
    };
    for link in session.links() {
        let (tcp, unix, relay) = (&link["tcp"], &link["unix"], &link["relay"]);
        if tcp.is_object() {
            let (near, far) = (&tcp["inode"], &tcp["peer_inode"]);
            compared += is_end(tcp, near, before, after) + is_end(&tcp["peer"], far, before, after);
            for (name, inode, of) in [
                ("recv_q", near, "recv_q"),
                ("send_q", near, "send_q"),
                ("peer_recv_q", far, "recv_q"),
                ("peer_send_q", far, "send_q"),
                ("bytes_sent", near, "bytes_acked"),
                ("bytes_received", near, "bytes_received"),
            ] {
                is_number(&tcp[name], inode, of);
                compared += 1;
            }
        }
        if unix.is_object() {
            for (inode, recv, send) in [("inode", "recv_q", "send_q"), ("peer_inode", "peer_recv_q", "peer_send_q")] {
                let (recv_q, send_q) = before.unix[&unix[inode].as_u64().expect("an inode")];
                assert_eq!((&unix[recv], &unix[send]), (&json!(recv_q), &json!(send_q)), "{unix}");
                compared += 2;
            }
        }
        if relay.is_object() {
            let (inbound, outbound) = (&relay["inbound_inode"], &relay["outbound_inode"]);
            is_number(&relay["bytes_forward"], inbound, "bytes_received");
            is_number(&relay["bytes_back"], outbound, "bytes_received");
            let ago = |of: &Readings| {
                let ends = [inbound, outbound].map(|inode| &of.tcp[&inode.as_u64().expect("an inode")]);
                ends.iter().map(|end| end.sent_ago.min(end.received_ago)).min().expect("two ends")
            };
            let millis = relay["last_ms"].as_u64().expect("milliseconds");
            assert!((ago(before)..=ago(after)).contains(&millis), "{relay}");
            compared += 3;
        }
    }
    let idle = session.0["idle_ms"].as_u64().expect("milliseconds");
    let written = fifos_written(session).elapsed().map_or(0, |ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
    // Heartbeats of connections do not count as activity. The two values are read one after the other.
    assert!(idle <= written && written - idle < READ_WITHIN_MS, "idle for {idle} ms, written to {written} ms ago");
    compared + 1 + of_processes(session)
}

/// Longest time between the reading of `show` and that of the FIFOs.
const READ_WITHIN_MS: u64 = 10_000;

/// Time of the last write to the exec's FIFOs, found among the shim's descriptors.
fn fifos_written(session: &ReportedSession) -> SystemTime {
    let exec = session.0["exec_id"].as_str().expect("an exec id");
    let shim = session.hops().iter().find(|hop| hop["role"] == "shim").expect("a shim");
    let held = fs::read_dir(format!("/proc/{}/fd", shim["pid"])).expect("its descriptors");
    let held = held.flatten().map(|file| file.path());
    let own = held.filter(|file| fs::read_link(file).is_ok_and(|to| to.to_string_lossy().contains(exec)));
    own.filter_map(|file| fs::metadata(file).ok()?.modified().ok()).max().expect("a FIFO")
}

/// First word of a line of /proc/PID/status.
fn status(pid: u64, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn of_processes(session: &ReportedSession) -> u64 {
    let mut compared = 0;
    // runc has no state: it exits when the command starts.
    for hop in session.hops().iter().filter(|hop| hop["state"].is_string()) {
        let pid = hop["pid"].as_u64().expect("a pid");
        assert_eq!(hop["state"].as_str(), status(pid, "State").as_deref(), "{hop}");
        assert_eq!(hop["uid"].as_u64(), status(pid, "Uid").and_then(|uid| uid.parse().ok()), "{hop}");
        let netns = fs::metadata(format!("/proc/{pid}/ns/net")).expect("its network namespace").ino();
        assert_eq!(hop["netns"], netns, "{hop}");
        let exe = fs::read_link(format!("/proc/{pid}/exe")).expect("its program");
        assert_eq!(hop["exe"].as_str(), exe.to_str(), "{hop}");
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("its name");
        assert_eq!(hop["comm"].as_str(), Some(comm.trim_end()), "{hop}");
        compared += 5;
    }
    compared
}

/// Starts a session of the oldest kubectl, without pings and input.
fn quiet_session() -> (String, Kubectl) {
    let mark = mark();
    let exec = Exec { mode: Mode::Stdin, version: lab().oldest(), ..Exec::sh(&format!(": {mark}; read line; :")) };
    let kubectl = exec.start();
    wait_until("the path is complete", || shown(&mark).filter(ReportedSession::is_complete));
    (mark, kubectl)
}

#[test]
fn show_json_equals_ss_and_proc() {
    let (mark, _kubectl) = quiet_session();
    let (session, before, after) = wait_until("nothing happens for a moment", || {
        let before = Readings::take();
        let session = shown(&mark)?;
        let after = Readings::take();
        before.is_quiet_until(&after, &inodes(&session)).then_some((session, before, after))
    });
    assert!(session.links().iter().all(|link| link["kind"] != "tcp" || link["tcp"]["peer"].is_object()), "{session:?}");
    // At least three legs of 26 numbers, two relays, and six processes.
    assert!(is_right(&session, &before, &after) > 3 * 26 + 2 * 3 + 6 * 5);
}

/// Trimmed rests of the lines in `show`'s text that start with this word.
fn after<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start_matches([' ', '│']).strip_prefix(word)).map(str::trim).collect()
}

/// `412 ms`, `12.3 s`: milliseconds, rounded down, and the resolution.
fn ago(words: &[&str]) -> Option<(u64, u64)> {
    Some(match *words {
        [number, "ms"] => (number.parse().ok()?, 1),
        [number, "s"] => (thousandths(number.parse().ok()?), 100),
        [minutes, "min", seconds, "s"] => {
            let (minutes, seconds): (u64, u64) = (minutes.parse().ok()?, seconds.parse().ok()?);
            ((minutes * 60 + seconds) * 1_000, 1_000)
        }
        _ => return None,
    })
}

#[test]
fn show_text_equals_ss_and_proc() {
    let (mark, _kubectl) = quiet_session();
    let (text, session, before, after_it) = wait_until("nothing happens for a moment", || {
        let session = shown(&mark)?;
        let before = Readings::take();
        let output =
            binary::command().args(["show", session.id(), "--color", "never"]).output().expect("execpath starts");
        let after = Readings::take();
        let text = String::from_utf8(output.stdout).expect("text");
        before.is_quiet_until(&after, &inodes(&session)).then_some((text, session, before, after))
    });
    for (side, inode) in [("near  ", "inode"), ("far   ", "peer_inode")] {
        let links =
            session.links().iter().map(|link| if link["tcp"].is_object() { &link["tcp"] } else { &link["unix"] });
        let expected: Vec<u64> = links.filter_map(|link| link[inode].as_u64()).collect();
        let lines = after(&text, side);
        assert_eq!(lines.len(), expected.len(), "{text}");
        for (line, inode) in lines.into_iter().zip(expected) {
            if let Some((recv_q, send_q)) = before.unix.get(&inode) {
                assert_eq!(line, format!("recv-q {recv_q}  send-q {send_q}"));
                continue;
            }
            let (early, late) = (&before.tcp[&inode], &after_it.tcp[&inode]);
            let words: Vec<&str> = line.split("  ").collect();
            let [state, recv_q, send_q, sent, received, rtt] = <[&str; 6]>::try_from(words).expect("six numbers");
            assert_eq!(state, early.state);
            let micros = |text: &str| text.strip_suffix(" ms").and_then(|text| text.parse().ok()).map(thousandths);
            for (name, number) in [
                ("recv_q", recv_q.strip_prefix("recv-q ").and_then(|text| text.parse().ok())),
                ("send_q", send_q.strip_prefix("send-q ").and_then(|text| text.parse().ok())),
                ("rtt_us", rtt.strip_prefix("rtt ").and_then(micros)),
            ] {
                let what = format!("{name} of inode {inode} in {line}");
                lies_between(number.expect("a number"), early.numbers[name], late.numbers[name], &what);
            }
            for (text, low, high) in [
                (sent.strip_prefix("sent "), early.sent_ago, late.sent_ago),
                (received.strip_prefix("received "), early.received_ago, late.received_ago),
            ] {
                let text = text.and_then(|text| text.strip_suffix(" ago")).expect("how long ago");
                let (least, coarse) = ago(&text.split(' ').collect::<Vec<_>>()).expect("a length of time");
                assert!(least <= high && low < least + coarse, "{text}, not {low} to {high} ms");
            }
        }
    }
    of_files(&text, &session);
}

/// Pids that have this file open for reading, or for writing.
fn holders(file: (u64, u64), writes: bool) -> BTreeSet<u64> {
    let pids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has = |pid: &u64| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == file);
        fds.map(|entry| entry.path()).filter(is_it).any(|path| {
            let number = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let mode = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0) & 3;
            if writes { mode != 0 } else { mode != 1 }
        })
    };
    pids.filter(has).collect()
}

/// Pipes of the process: number, waiting bytes, holder of the other end.
fn of_files(text: &str, session: &ReportedSession) {
    let pid = u64::from(session.pid("process").expect("a process"));
    for (fd, name) in ["stdin ", "stdout", "stderr"].into_iter().enumerate() {
        let link = format!("/proc/{pid}/fd/{fd}");
        let meta = fs::metadata(&link).expect("the descriptor is open");
        let target = fs::read_link(&link).expect("a link");
        let other: BTreeSet<u64> = holders((meta.dev(), meta.ino()), fd == 0);
        let other: Vec<String> = other.into_iter().filter(|holder| *holder != pid).map(|pid| pid.to_string()).collect();
        assert_eq!(other.len(), 1, "the shim alone has the other end of {target:?}");
        let expected = format!("{}  0 of 65536 bytes queued  other end: pid {}", target.display(), other.join(", "));
        let found = after(text, &format!("{name} pipe:")).first().map(|rest| format!("pipe:{rest}"));
        assert_eq!(found.as_deref(), Some(expected.as_str()), "{text}");
    }
}
