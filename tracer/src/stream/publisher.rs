//! Publishes the batches of one recording, on a thread of its own.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use async_nats::{
    Event, HeaderMap,
    connection::State,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        context::{CreateStreamErrorKind, PublishErrorKind},
        stream,
    },
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    address::{Address, token_of},
    credentials::{self, Credentials},
};
use crate::{
    clock, confine,
    model::Span,
    record::{Batch, BatchSink, Rotate},
};

/// Most compressed bytes that wait: hours of a host while the server is away, and little beside the tracer's tables.
const MAX_QUEUE: usize = 16 << 20;

/// Most batches that wait. An idle host has one every five seconds.
const MAX_BATCHES: usize = 16_384;

/// Age at which a part ends: a reader that starts anywhere reads at most this much more.
pub(super) const PART_EVERY: Duration = Duration::from_secs(120);

/// Longest time for the acknowledgement of a message.
const ACKED_WITHIN: Duration = Duration::from_secs(5);

/// Messages that the client holds at most: one waits at a time.
const CAPACITY: usize = 8;

/// First and longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Longest time at the end for batches that wait.
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// Longest age of messages in a stream that the publisher creates.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Sizes of a stream that the publisher creates: the first one for which the server has space. It reserves the whole.
const MAX_BYTES: [i64; 3] = [4 << 30, 1 << 30, 256 << 20];

/// Time for which the server knows the ids of messages: longer than a batch is tried again by a living connection.
const DUPLICATES_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Identity of a recording: the host that it speaks for, and an id that no other recording of that host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Name of the host.
    pub hostname: String,
    /// Boot id of the host.
    pub boot_id: String,
    /// Boot time at which the recording began, in nanoseconds.
    pub began: u64,
}

impl Run {
    /// A recording of this host that begins now.
    #[must_use]
    pub fn now(hostname: String, boot_id: String) -> Self {
        Self { hostname, boot_id, began: clock::now().0 }
    }
}

/// Why nothing can be published.
#[derive(Debug)]
pub enum PublishError {
    /// The name of this host cannot be part of a subject.
    Hostname(String),
    /// The server's host is unknown.
    Unknown(io::Error),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname(name) => write!(f, "this host's name `{name}` is no host name"),
            Self::Unknown(error) => write!(f, "the server's host is unknown: {error}"),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unknown(error) => Some(error),
            Self::Hostname(_) => None,
        }
    }
}

/// A batch in the queue.
struct Queued {
    number: u64,
    observations: u64,
    frame: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    queue: VecDeque<Queued>,
    /// Compressed bytes in the queue.
    bytes: usize,
    /// Number of the next batch.
    next: u64,
    /// Observations of batches that the server will never take.
    undeliverable: u64,
    /// No more batches follow.
    is_closing: bool,
}

/// The queue between the trace and the thread of the network.
#[derive(Default)]
struct Shared {
    state: Mutex<Queue>,
    /// Wakes the thread.
    waits: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Queue> {
        // A panic of the other thread leaves the queue as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work of the thread.
struct Work {
    server: String,
    credentials: Credentials,
    address: Address,
    host: String,
    /// First part of each message's id.
    id: String,
    shared: Arc<Shared>,
    /// Closed when everything was delivered.
    done: mpsc::Sender<()>,
}

/// Publishes the batches of one recording.
pub struct Publisher {
    shared: Arc<Shared>,
    /// Work of the thread, until it starts.
    work: Option<Work>,
    done: mpsc::Receiver<()>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

impl Publisher {
    /// Looks up the server. The server need not be up; the thread starts with the first batch, when the process has given
    /// up its rights.
    ///
    /// # Errors
    /// The server's host is unknown, or this host's name cannot be part of a subject.
    pub fn new(address: &Address, credentials: Credentials, run: &Run) -> Result<Self, PublishError> {
        let host = token_of(&run.hostname).ok_or_else(|| PublishError::Hostname(run.hostname.clone()))?;
        let server = credentials::resolve(address).map_err(PublishError::Unknown)?;
        let (shared, (done, over)) = (Arc::<Shared>::default(), mpsc::channel());
        let id = format!("{}.{}", run.boot_id, run.began);
        let work = Work { server, credentials, address: address.clone(), host, id, shared: Arc::clone(&shared), done };
        Ok(Self { shared, work: Some(work), done: over })
    }

    /// When a part of the recording ends.
    #[must_use]
    pub fn rotate() -> Rotate {
        Rotate { age: Some(Span::from_secs(PART_EVERY.as_secs())), ..Rotate::default() }
    }

    fn start(&mut self) -> io::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("publish".to_owned()).spawn(move || {
            confine::drop_capabilities_once_confined();
            runtime.block_on(work.run());
        })?;
        Ok(())
    }
}

impl BatchSink for Publisher {
    fn take(&mut self, batch: Batch) -> bool {
        if let Err(error) = self.start() {
            tracing::warn!(%error, "the thread of the publisher cannot be started");
            return false;
        }
        let mut state = self.shared.state();
        // A refused batch has a number, too: a reader sees that one is missing, and starts anew at the next part.
        let number = state.next;
        state.next += 1;
        if state.bytes + batch.frame.len() > MAX_QUEUE || state.queue.len() >= MAX_BATCHES {
            return false;
        }
        let Batch { observations, frame } = batch;
        state.bytes += frame.len();
        state.queue.push_back(Queued { number, observations, frame });
        drop(state);
        self.shared.waits.notify_one();
        true
    }

    fn has_room(&self) -> bool {
        let state = self.shared.state();
        state.bytes < MAX_QUEUE / 2 && state.queue.len() < MAX_BATCHES / 2
    }

    fn finish(&mut self) -> u64 {
        self.shared.state().is_closing = true;
        self.shared.waits.notify_one();
        if self.work.is_none() {
            // Nothing is sent: the end of the other side is the message.
            let _over = self.done.recv_timeout(DRAINED_WITHIN);
        }
        let state = self.shared.state();
        state.undeliverable + state.queue.iter().map(|queued| queued.observations).sum::<u64>()
    }
}

/// Outcome of an attempt.
enum Outcome {
    Taken,
    Later,
    Never,
}

impl Work {
    /// Publishes until the queue is closed and empty. Batches keep their order: each waits for the acknowledgement of the one
    /// before.
    async fn run(self) {
        let inbox = format!("_INBOX.execpath.{}.{}", self.address.cluster, self.host);
        let options = self
            .credentials
            .options(&format!("execpath {}", self.host), &inbox)
            .retry_on_initial_connect()
            .client_capacity(CAPACITY)
            .reconnect_delay_callback(|attempts| {
                PAUSE.saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
            })
            .event_callback(tell);
        let client = match options.connect(&self.server).await {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "the message stream cannot be used");
                return;
            }
        };
        let mut context = jetstream::new(client);
        context.set_timeout(ACKED_WITHIN);
        let (mut pause, mut waits) = (PAUSE, false);
        loop {
            let Some((number, frame)) = self.first() else {
                if self.shared.state().is_closing {
                    break;
                }
                self.shared.waits.notified().await;
                continue;
            };
            match self.publish(&context, number, frame).await {
                Outcome::Taken => {
                    self.remove(false);
                    if std::mem::take(&mut waits) {
                        tracing::warn!("the message stream takes batches again");
                    }
                    pause = PAUSE;
                }
                Outcome::Never => self.remove(true),
                Outcome::Later => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::warn!("the message stream takes no batches now: they wait");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        drop(self.done);
    }

    /// The batch that waits longest. It stays in the queue until it is acknowledged.
    fn first(&self) -> Option<(u64, Vec<u8>)> {
        self.shared.state().queue.front().map(|queued| (queued.number, queued.frame.clone()))
    }

    fn remove(&self, is_lost: bool) {
        let mut state = self.shared.state();
        if let Some(queued) = state.queue.pop_front() {
            state.bytes -= queued.frame.len();
            if is_lost {
                state.undeliverable += queued.observations;
            }
        }
    }

    async fn publish(&self, context: &jetstream::Context, number: u64, frame: Vec<u8>) -> Outcome {
        // The client would queue each attempt until it is connected.
        if context.client().connection_state() != State::Connected {
            return Outcome::Later;
        }
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, format!("{}.{number}", self.id));
        let subject = self.address.subject(&self.host);
        // A connection that stalls holds the call up.
        let sent = timeout(ACKED_WITHIN, context.publish_with_headers(subject, headers, frame.into())).await;
        let acknowledged = match sent {
            Ok(Ok(acknowledgement)) => acknowledgement.await,
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => return Outcome::Later,
        };
        match acknowledged {
            // Also for a message that the server had already.
            Ok(_acknowledgement) => Outcome::Taken,
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                self.create(context).await;
                Outcome::Later
            }
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                tracing::warn!(%error, "the server takes no message of this size");
                Outcome::Never
            }
            Err(error) => {
                tracing::debug!(%error, "the server does not take a batch now");
                Outcome::Later
            }
        }
    }

    /// Creates the stream of the cluster. An administrator may create it instead, with other limits.
    async fn create(&self, context: &jetstream::Context) {
        for max_bytes in MAX_BYTES {
            let config = stream::Config {
                name: self.address.stream(),
                subjects: vec![self.address.subjects()],
                max_age: MAX_AGE,
                max_bytes,
                duplicate_window: DUPLICATES_WITHIN,
                storage: stream::StorageType::File,
                description: Some("recordings of execpath".to_owned()),
                ..stream::Config::default()
            };
            match context.create_stream(config).await {
                Ok(_stream) => {
                    tracing::info!(stream = %self.address.stream(), max_bytes, "created the stream");
                    return;
                }
                // Without the permission to do so, the answer never comes.
                Err(error) => {
                    tracing::warn!(%error, stream = %self.address.stream(), max_bytes, "the stream cannot be created");
                    if error.kind() == CreateStreamErrorKind::TimedOut {
                        return;
                    }
                }
            }
        }
    }
}

/// Logs a change of the connection.
async fn tell(event: Event) {
    match event {
        Event::Connected => tracing::info!("connected to the message stream"),
        Event::Disconnected => tracing::info!("not connected to the message stream"),
        Event::ServerError(error) => tracing::warn!(%error, "the server of the message stream"),
        Event::LameDuckMode | Event::Draining | Event::Closed | Event::SlowConsumer(_) | Event::ClientError(_) => {
            tracing::debug!(%event, "the message stream");
        }
    }
}
