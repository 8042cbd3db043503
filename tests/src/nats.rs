//! A server of NATS on loopback, with a store in a folder of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use async_nats::jetstream::stream::Stream;
use tempfile::TempDir;

/// A running server. It ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
}

/// True if the server of Debian's package `nats-server` is there; else says that the test is skipped.
#[must_use]
pub fn is_installed() -> bool {
    let found = Command::new("nats-server").arg("--version").output().is_ok_and(|ran| ran.status.success());
    if !found {
        eprintln!("skipped: nats-server is missing: apt-get install nats-server");
    }
    found
}

impl Server {
    /// Starts a server with these lines in its configuration, on a port that it chooses.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start(configuration: &str) -> Self {
        Self::at(-1, configuration, tempfile::tempdir().expect("a folder"))
    }

    fn at(port: i32, configuration: &str, folder: TempDir) -> Self {
        let file = folder.path().join("nats.conf");
        let store = folder.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}, max_file_store: 1G }}\n{configuration}\n"
        );
        fs::write(&file, text).expect("the configuration");
        let mut child = Command::new("nats-server")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        // Its log says the port, and when it is ready.
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let (mut said, mut port) = (Vec::new(), None);
        for line in log.by_ref() {
            if let Some((_, found)) = line.rsplit_once("Listening for client connections on 127.0.0.1:") {
                port = found.parse().ok();
            }
            let is_ready = line.ends_with("Server is ready");
            said.push(line);
            if is_ready {
                break;
            }
        }
        // A full pipe would stop the server.
        thread::spawn(move || log.for_each(drop));
        assert!(port.is_some(), "the server is not ready: {said:#?}");
        Self { child, folder, port: port.unwrap_or_default() }
    }

    /// Ends the server. Its port and its store stay for [`Down::up`].
    ///
    /// # Panics
    /// If no folder can be made.
    #[must_use]
    pub fn stop(mut self, configuration: &str) -> Down {
        self.end();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        Down { folder, port: self.port, configuration: configuration.to_owned() }
    }

    fn end(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// Address of a cluster's stream.
    #[must_use]
    pub fn address(&self, cluster: &str) -> String {
        format!("nats://127.0.0.1:{}/{cluster}", self.port)
    }

    /// Address for other clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

/// A message of a cluster's stream, as the server has it.
#[derive(Clone, Debug)]
pub struct Raw {
    /// `Nats-Msg-Id`.
    pub id: String,
    /// A batch.
    pub payload: Vec<u8>,
}

/// Runs a client of the server.
fn on_runtime<T>(client: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(client)
}

impl Server {
    /// True once an agent has created the cluster's stream.
    ///
    /// # Panics
    /// If the server does not answer.
    #[must_use]
    pub fn has_stream(&self, cluster: &str) -> bool {
        on_runtime(self.stream(cluster)).is_some()
    }

    async fn stream(&self, cluster: &str) -> Option<Stream> {
        let client = async_nats::connect(self.url()).await.expect("a connection");
        async_nats::jetstream::new(client).get_stream(format!("execpath-v1-{cluster}")).await.ok()
    }

    /// All messages of a cluster's stream, in order.
    ///
    /// # Panics
    /// If the stream cannot be read.
    #[must_use]
    pub fn messages(&self, cluster: &str) -> Vec<Raw> {
        on_runtime(async {
            let stream = self.stream(cluster).await.expect("a stream");
            let mut messages = Vec::new();
            for position in 1..=stream.cached_info().state.last_sequence {
                let message = stream.get_raw_message(position).await.expect("a message");
                let id = message.headers.get("Nats-Msg-Id").expect("an id").to_string();
                messages.push(Raw { id, payload: message.payload.to_vec() });
            }
            messages
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server that was stopped.
#[derive(Debug)]
pub struct Down {
    folder: TempDir,
    port: u16,
    configuration: String,
}

impl Down {
    /// Starts the server again.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn up(self) -> Server {
        Server::at(self.port.into(), &self.configuration, self.folder)
    }

    /// Address of a cluster's stream.
    #[must_use]
    pub fn address(&self, cluster: &str) -> String {
        format!("nats://127.0.0.1:{}/{cluster}", self.port)
    }
}
