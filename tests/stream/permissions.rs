//! Credentials of an agent and of a reader, against the real server, with the permissions of docs/cluster.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_nats::{Client, ConnectOptions, Event, ServerError};
use execpath::{
    model::Span,
    stream::{Files, Publisher, Run},
};
use execpath_tests::{
    binary::run,
    merged::OtherHost,
    nats::{Server, is_installed},
};
use nkeys::KeyPair;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::publish::{feed, publish, publisher, run_of};

/// A user: the file with its seed, and its public key.
struct User {
    files: Files,
    seed: String,
    key: String,
}

fn user(name: &str, folder: &Path) -> User {
    let pair = KeyPair::new_user();
    let (seed, file) = (pair.seed().expect("a seed"), folder.join(name));
    fs::write(&file, &seed).expect("a file");
    User { files: Files { nkey: Some(file), ..Files::default() }, seed, key: pair.public_key() }
}

/// The example in docs/cluster.md, with these keys.
fn configuration(admin: &User, agent: &User, reader: &User) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cluster.md")).expect("the page");
    let (_, rest) = page.split_once("```conf\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let keys = [("U_ADMIN", admin), ("U_AGENT_CLIENT", agent), ("U_READER", reader)];
    keys.iter().fold(example.to_owned(), |text, (name, user)| {
        assert!(text.contains(name), "{name}");
        text.replace(name, &user.key)
    })
}

/// A recording under another name.
fn recording(of: &str, hostname: &'static str, folder: &Path) -> PathBuf {
    let host = OtherHost { hostname, boot_lead: Span(0), utc_lead: Span(0) };
    let path = format!("recordings/hosts/{of}.jsonl.zst");
    host.record(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), folder)
}

/// Acts as a user, and returns the first error of the server.
fn error_of(url: &str, user: &User, act: impl AsyncFnOnce(&Client)) -> String {
    let (errors, mut seen) = mpsc::unbounded_channel();
    let options = ConnectOptions::new().nkey(user.seed.clone()).event_callback(move |event| {
        if let Event::ServerError(ServerError::Other(text)) = event {
            let _gone = errors.send(text);
        }
        async {}
    });
    runtime().block_on(async {
        let client = options.connect(url).await.expect("a connection");
        act(&client).await;
        seen.recv().await.expect("an error")
    })
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().enable_all().worker_threads(1).build().expect("a runtime")
}

#[test]
fn agent_publishes_for_its_host_and_reads_nothing() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [admin, agent, reader] = ["admin", "agent", "reader"].map(|name| user(name, folder.path()));
    let server = Server::start(&configuration(&admin, &agent, &reader));
    let (address, [client, master]) =
        (server.address("prod"), ["client", "master"].map(|it| recording(it, it, folder.path())));
    // An administrator creates the stream.
    runtime().block_on(async {
        let options = ConnectOptions::new().nkey(admin.seed.clone());
        let client = options.connect(server.url()).await.expect("a connection");
        let stream = async_nats::jetstream::stream::Config {
            name: "execpath-v1-prod".to_owned(),
            subjects: vec!["execpath.v1.prod.*".to_owned()],
            ..Default::default()
        };
        async_nats::jetstream::new(client).create_stream(stream).await.expect("a stream");
    });
    assert_eq!(publish(&client, &address, &agent.files, Publisher::rotate()).undelivered, 0);
    // For another host.
    let other = publisher(&address, &agent.files, &run_of(&master));
    let written = feed(&master, Box::new(other), Publisher::rotate(), || {});
    assert_eq!(written.undelivered, written.observations);
    let list = |user: &User| {
        let file = user.files.nkey.as_deref().and_then(Path::to_str).expect("a file");
        run(["ls", "--kind", "all", "--from", &address, "--nats-nkey", file])
    };
    let read = list(&reader);
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    assert!(read.stderr.contains("1 host heard"), "{}", read.stderr);
    assert!(read.stderr.contains(": client\n"), "{}", read.stderr);
    let key = reader.files.nkey.as_deref().and_then(Path::to_str).expect("a file");
    let followed = run(["trace", "--from", &address, "--nats-nkey", key, "--duration", "1s"]);
    assert_eq!(followed.code, Some(0), "{}", followed.stderr);
    assert!(followed.stderr.contains("1 host heard: client"), "{}", followed.stderr);
    let refused = list(&agent);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(!refused.stderr.contains(&agent.seed), "{}", refused.stderr);
    // The server refuses the acts themselves.
    for subject in ["execpath.v1.prod.*", "_INBOX.execpath-reader.prod.>", "_INBOX.execpath.prod.worker.>"] {
        let error = error_of(&server.url(), &agent, async |client| {
            drop(client.subscribe(subject).await.expect("a request"));
        });
        assert!(error.to_lowercase().contains("permissions violation for subscription"), "{error}");
    }
    let error = error_of(&server.url(), &reader, async |client| {
        client.publish("execpath.v1.prod.client", "x".into()).await.expect("a request");
    });
    assert!(error.to_lowercase().contains("permissions violation for publish"), "{error}");
    assert!(list(&reader).stderr.contains("1 host heard"));
}

#[test]
fn agent_that_lies_about_its_host_changes_no_other() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (server, [honest, master]) =
        (Server::start(""), ["honest", "master"].map(|it| recording("all", it, folder.path())));
    let address = server.address("prod");
    assert_eq!(publish(&honest, &address, &Files::default(), Publisher::rotate()).undelivered, 0);
    let alone = run(["replay", &address, "-o", "json", "--kind", "all"]).stdout;
    assert!(alone.len() > 1_000);
    // Under its own name, it publishes the recording of another host.
    let liar = Run { hostname: "liar".to_owned(), ..run_of(&master) };
    let written = feed(&master, Box::new(publisher(&address, &Files::default(), &liar)), Publisher::rotate(), || {});
    assert_eq!(written.undelivered, 0);
    let ran = run(["replay", &address, "-o", "json", "--kind", "all"]);
    assert_eq!(ran.stdout, alone);
    assert!(ran.stderr.contains("host liar: ") && ran.stderr.contains("speaks for another host"), "{}", ran.stderr);
}
