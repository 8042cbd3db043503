//! A cluster that is followed: hosts that join late, restart, and repeat themselves give the sessions of an undisturbed
//! reading.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use execpath::{
    engine::{Filter, Kinds, Setup, Shown},
    follow::{Follow, Health, Options},
    model::Span,
    redact::Redactor,
    sink::{Jsonl, Sink},
    stream::{Address, Credentials, Files, Publisher, Run, Subscription},
};
use execpath_tests::{
    binary::{command, run},
    merged::{OtherHost, essence},
    nats::{Server, is_installed},
    pane::Pane,
};
use serde_json::Value;

use crate::publish::{feed, often, publish, publisher, run_of};

/// A host's recording, with a clock of its own.
fn host(hostname: &'static str, folder: &Path) -> PathBuf {
    let utc_lead = Span::from_secs(if hostname == "master" { 180 } else { 0 });
    let host = OtherHost { hostname, boot_lead: Span::from_secs(500), utc_lead };
    let path = format!("recordings/hosts/{hostname}.jsonl.zst");
    host.record(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), folder)
}

/// Longest time for a condition, on a busy machine.
const LONGEST: Duration = Duration::from_secs(120);

/// Lines that were written.
#[derive(Clone, Default)]
struct Written(Arc<(Mutex<Vec<u8>>, Condvar)>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().expect("no panic").extend_from_slice(bytes);
        self.0.1.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The last state of each session, by id.
type Sessions = BTreeMap<String, Value>;

fn essences<'a>(sessions: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Sessions {
    sessions.into_iter().map(|(id, session)| (id.clone(), essence(session))).collect()
}

/// A cluster that is followed.
struct Followed {
    written: Written,
    health: Arc<(Mutex<Health>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Shown>,
}

impl Followed {
    fn start(address: &str) -> Self {
        let address = Address::parse(address).expect("an address");
        let credentials = Credentials::read(&Files::default(), &address).expect("none");
        let since = Duration::from_secs(600);
        let subscription = Subscription::start(&address, &credentials, since).expect("a stream");
        let (written, stop) = (Written::default(), Arc::new(AtomicBool::new(false)));
        let health: Arc<(Mutex<Health>, Condvar)> = Arc::default();
        let sink: Box<dyn Sink> = Box::new(Jsonl::new(Box::new(written.clone())));
        let (is_stopped, for_health) = (Arc::clone(&stop), Arc::clone(&health));
        let options = Options {
            setup: Setup {
                sinks: vec![sink],
                filter: Filter { kinds: Kinds::All, ..Filter::default() },
                redactor: Redactor { keep_secrets: true, ..Redactor::default() },
                ..Setup::default()
            },
            since,
            duration: None,
            is_stopped: Box::new(move || is_stopped.load(Ordering::Relaxed)),
            health: Box::new(move |health| {
                for_health.0.lock().expect("no panic").clone_from(health);
                for_health.1.notify_all();
            }),
            watcher: None,
        };
        let thread = thread::spawn(move || Follow::new(subscription, options).run().expect("a stream"));
        Self { written, health, stop, thread }
    }

    /// Waits until a host is heard.
    fn wait_for(&self, host: &str) {
        let (health, changed) = &*self.health;
        let health = health.lock().expect("no panic");
        let waiting = |health: &mut Health| !health.hosts.contains_key(host);
        let (_health, over) = changed.wait_timeout_while(health, LONGEST, waiting).expect("no panic");
        assert!(!over.timed_out(), "{host} is not heard");
    }

    /// The lines so far, as the last state of each session. No session is opened twice; after its end, only a fuller end
    /// follows.
    fn sessions(text: &[u8]) -> Sessions {
        let mut sessions = Sessions::new();
        for line in String::from_utf8_lossy(text).split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let Some(id) = line["session"]["id"].as_str() else { continue };
            let before = sessions.insert(id.to_owned(), line["session"].clone());
            let before = before.as_ref().map(|session| session["state"].as_str().unwrap_or_default().to_owned());
            let is_new = matches!(line["type"].as_str(), Some("session.opened" | "attempt.started"));
            let is_end = line["session"]["state"] == "closed";
            let fits = before.as_deref().map_or(is_new, |before| !is_new && (before == "open" || is_end));
            assert!(fits, "after {before:?}: {line}");
        }
        sessions
    }

    /// Waits until these sessions were shown as they should be. Returns all.
    fn wait(&self, expected: &Sessions) -> Sessions {
        let (text, changed) = &*self.written.0;
        let text = text.lock().expect("no panic");
        let missing = |text: &[u8]| {
            let seen = essences(&Self::sessions(text));
            let missing = expected.iter().filter(|(id, one)| seen.get(*id) != Some(one));
            missing.map(|(id, one)| (id.clone(), one.clone(), seen.get(id).cloned())).collect::<Vec<_>>()
        };
        let waiting = |text: &mut Vec<u8>| !missing(text).is_empty();
        let (text, over) = changed.wait_timeout_while(text, LONGEST, waiting).expect("no panic");
        for (id, expected, seen) in missing(&text) {
            eprintln!("{id}\nexpected {expected:.120}\nseen     {:.120}", seen.unwrap_or_default().to_string());
        }
        assert!(!over.timed_out(), "sessions differ");
        Self::sessions(&text)
    }

    fn stop(self) -> (Shown, Health) {
        self.stop.store(true, Ordering::Relaxed);
        let shown = self.thread.join().expect("no panic");
        (shown, self.health.0.lock().expect("no panic").clone())
    }
}

/// Sessions that a reading of the whole stream gives.
fn replayed(address: &str) -> Sessions {
    let ran = run(["replay", address, "-o", "json", "--kind", "all"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let all: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
    all.into_iter().map(|one| (one["id"].as_str().expect("an id").to_owned(), one)).collect()
}

/// Sessions that lead from kubectl to a process.
fn complete(sessions: &Sessions) -> Sessions {
    let is_complete = |one: &Value| one["what"]["complete"] == true && one["hops"][0]["role"] == "kubectl";
    sessions.iter().filter(|(_, one)| is_complete(one)).map(|(id, one)| (id.clone(), one.clone())).collect()
}

/// True if a session is there with its whole path, down to the worker.
fn is_whole(session: &Value) -> bool {
    let has = |name: &str| session["hops"].as_array().is_some_and(|hops| hops.iter().any(|hop| hop["host"] == name));
    session["complete"] == true && has("client") && has("master") && has("worker")
}

#[test]
fn hosts_that_join_late_give_the_sessions_of_replay() {
    if !is_installed() {
        return;
    }
    for (cluster, order) in [("down", ["client", "worker", "master"]), ("up", ["master", "worker", "client"])] {
        let (server, folder) = (Server::start(""), tempfile::tempdir().expect("a folder"));
        let address = server.address(cluster);
        let files = order.map(|name| host(name, folder.path()));
        let publish = |file: &Path| assert_eq!(publish(file, &address, &Files::default(), often()).undelivered, 0);
        // The first host is there before, with sessions that have ended: they are not shown.
        publish(&files[0]);
        let followed = Followed::start(&address);
        followed.wait_for(order[0]);
        publish(&files[1]);
        publish(&files[2]);
        let expected = essences(&replayed(&address));
        // Sessions of the first host alone have ended before the call.
        let complete = complete(&expected);
        assert!(complete.len() >= 3, "{expected:#?}");
        let seen = followed.wait(&complete);
        assert!(seen.values().any(is_whole), "{:#?}", essences(&seen));
        let (shown, health) = followed.stop();
        assert!(shown.sessions >= complete.len() as u64, "{shown:?}");
        // A link that replay does not have is wrong.
        for (id, session) in essences(&seen) {
            let links = |one: &Value| one["links"].as_array().cloned().unwrap_or_default();
            if let Some(expected) = expected.get(&id) {
                assert!(links(&session).iter().all(|link| links(expected).contains(link)), "{id} {session:#}");
            }
        }
        assert!(health.trouble.is_none(), "{health:?}");
    }
}

#[test]
fn restart_of_server_and_agent_ends_no_follower() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [client, master, worker] = ["client", "master", "worker"].map(|name| host(name, folder.path()));
    let server = Server::start("");
    let address = server.address("restarts");
    publish(&client, &address, &Files::default(), Publisher::rotate());
    let followed = Followed::start(&address);
    followed.wait_for("client");
    let server = server.stop("").up();
    publish(&master, &address, &Files::default(), Publisher::rotate());
    // The agent of the first host starts again: another run of the same boot.
    let again = Run { began: 2, ..run_of(&client) };
    let again = publisher(&address, &Files::default(), &again);
    assert_eq!(feed(&client, Box::new(again), Publisher::rotate(), || {}).undelivered, 0);
    publish(&worker, &address, &Files::default(), Publisher::rotate());
    followed.wait(&complete(&essences(&replayed(&address))));
    followed.stop();
    drop(server);
}

#[test]
fn trace_follows_in_the_strict_sandbox() {
    if !is_installed() {
        return;
    }
    let (server, folder) = (Server::start(""), tempfile::tempdir().expect("a folder"));
    let address = server.address("once");
    let [client, master, worker] = ["client", "master", "worker"].map(|name| host(name, folder.path()));
    publish(&client, &address, &Files::default(), Publisher::rotate());
    let output = folder.path().join("sessions.jsonl");
    let format = format!("jsonl={}", output.display());
    let mut child = command()
        .args(["trace", "--from", &address, "--once", "-o", &format])
        .stderr(Stdio::piped())
        .spawn()
        .expect("execpath runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let heard = lines.by_ref().find(|line| line.contains("1 host heard: client"));
    assert!(heard.is_some(), "the first host is named");
    publish(&master, &address, &Files::default(), Publisher::rotate());
    publish(&worker, &address, &Files::default(), Publisher::rotate());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{rest:#?}");
    let text = std::fs::read_to_string(output).expect("the output");
    // More changes of the same moment can follow.
    let ends = |line: &str| line.contains("\"type\":\"session.closed\"") || line.contains("\"complete\":true");
    assert!(text.lines().any(ends), "{text}");
}

#[test]
fn trace_without_sessions_is_an_empty_list() {
    if !is_installed() {
        return;
    }
    let (server, folder) = (Server::start(""), tempfile::tempdir().expect("a folder"));
    let address = server.address("empty");
    let missing = run(["trace", "--from", &address, "--duration", "1s"]);
    assert_eq!(missing.code, Some(5), "{}", missing.stderr);
    assert!(missing.stderr.contains("no stream of this cluster"), "{}", missing.stderr);
    publish(&host("client", folder.path()), &address, &Files::default(), Publisher::rotate());
    let nothing = ["trace", "--from", &address, "--duration", "1s", "-o", "json", "--pod", "nowhere"];
    let ran = run(nothing);
    assert_eq!((ran.code, ran.stdout.trim()), (Some(0), "[]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 host heard: client"), "{}", ran.stderr);
    let ran = run(nothing.into_iter().chain(["--once"]));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
}

#[test]
fn watch_follows_hosts_that_join() {
    if !is_installed() {
        return;
    }
    let (server, folder) = (Server::start(""), tempfile::tempdir().expect("a folder"));
    let address = server.address("screen");
    let [client, master, worker] = ["client", "master", "worker"].map(|name| host(name, folder.path()));
    publish(&client, &address, &Files::default(), Publisher::rotate());
    let Some(pane) = Pane::start(&["watch", "--from", &address]) else { return };
    pane.shows("1 host");
    publish(&master, &address, &Files::default(), Publisher::rotate());
    publish(&worker, &address, &Files::default(), Publisher::rotate());
    pane.shows("3 hosts");
    pane.shows("closed: exited with code 0");
    pane.keys(&["q"]);
    pane.is_restored(0);
}
