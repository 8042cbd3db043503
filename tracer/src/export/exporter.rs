//! The exporter of a process: its sockets and its thread.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    http::serve,
    outbox::Signal,
    own,
    sender::{self, Receiver},
    shared::{Shared, lock},
};
use crate::{
    confine::{self, Net},
    model::Degraded,
};

/// Longest time at the end for messages that wait.
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// Where to export to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Address of the endpoint for metrics; `None`: no endpoint.
    pub metrics: Option<SocketAddr>,
    /// Address of the OTLP receiver, `http://HOST:PORT` or `HOST:PORT`; `None`: no messages.
    pub otlp: Option<String>,
}

impl Options {
    /// True if anything is exported.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.metrics.is_some() || self.otlp.is_some()
    }
}

/// Why an exporter cannot be made.
#[derive(Debug)]
pub enum ExportError {
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The address of the receiver is none, or its host is unknown.
    Receiver(String, io::Error),
}

/// What the thread of the network takes over.
struct Work {
    listener: Option<TcpListener>,
    receiver: Option<Receiver>,
    stop: watch::Receiver<bool>,
    /// Closed when everything was sent.
    done: mpsc::Sender<()>,
}

/// The exporter of a process. Clones share it.
#[derive(Clone)]
pub struct Exporter {
    pub(super) shared: Arc<Shared>,
    /// Work of the thread, until it starts.
    work: Arc<Mutex<Option<Work>>>,
    stop: Arc<watch::Sender<bool>>,
    done: Arc<Mutex<mpsc::Receiver<()>>>,
    net: Net,
}

impl Exporter {
    /// Opens the socket of the endpoint and looks up the receiver: the process can do neither after it has given up its rights.
    ///
    /// # Errors
    /// When an address cannot be used.
    pub fn new(options: &Options) -> Result<Self, ExportError> {
        let listen = |address| TcpListener::bind(address).map_err(|error| ExportError::Listen(address, error));
        let listener = options.metrics.map(listen).transpose()?;
        let resolve =
            |text: &String| Receiver::resolve(text).map_err(|error| ExportError::Receiver(text.clone(), error));
        let receiver = options.otlp.as_ref().map(resolve).transpose()?;
        let net = Net { serves: listener.is_some(), connects: receiver.is_some() };
        let shared = Shared::new(receiver.is_some());
        let (stop, stopping) = watch::channel(false);
        let (done, over) = mpsc::channel();
        let work = Work { listener, receiver, stop: stopping, done };
        Ok(Self {
            shared: Arc::new(shared),
            work: Arc::new(Mutex::new(Some(work))),
            stop: Arc::new(stop),
            done: Arc::new(Mutex::new(over)),
            net,
        })
    }

    /// Connections that the process needs for it.
    #[must_use]
    pub const fn net(&self) -> Net {
        self.net
    }

    /// Address of the endpoint, with its port; `None` without one, or once it is served.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        lock(&self.work).as_ref()?.listener.as_ref()?.local_addr().ok()
    }

    /// Reports that this host cannot be traced.
    pub fn refuse(&self, degraded: &Degraded) {
        self.shared.refuse(degraded);
    }

    /// Serves the network from now on, on a thread without capabilities. A second call changes nothing.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(&self) -> io::Result<()> {
        let Some(work) = lock(&self.work).take() else { return Ok(()) };
        if let Some(listener) = &work.listener {
            listener.set_nonblocking(true)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name("export".to_owned()).spawn(move || {
            confine::drop_capabilities_once_confined();
            own::lower_priority();
            runtime.block_on(work.run(shared));
        })?;
        Ok(())
    }

    /// Sends what waits, for at most five seconds. What is left is dropped and counted.
    pub fn drain(&self) {
        if !self.shared.has_receiver || lock(&self.work).is_some() {
            return;
        }
        let _thread_gone = self.stop.send(true);
        // Nothing is sent: the end of the other side is the message.
        if matches!(lock(&self.done).recv_timeout(DRAINED_WITHIN), Err(mpsc::RecvTimeoutError::Timeout)) {
            self.shared.outbox.abandon();
        }
        let (traces, logs) = (self.shared.outbox.tally(Signal::Traces), self.shared.outbox.tally(Signal::Logs));
        if traces.dropped + logs.dropped > 0 {
            tracing::warn!(spans = traces.dropped, logs = logs.dropped, "not delivered to the OTLP receiver");
        }
    }
}

impl Work {
    /// Serves and sends. The endpoint is served for as long as the process lives.
    async fn run(self, shared: Arc<Shared>) {
        let Self { listener, receiver, stop, done } = self;
        let sending = async {
            if let Some(receiver) = receiver {
                sender::run(receiver, Arc::clone(&shared), stop).await;
            }
            drop(done);
        };
        let serving = async {
            if let Some(listener) = listener {
                serve(listener, Arc::clone(&shared)).await;
            }
        };
        tokio::join!(sending, serving);
    }
}
