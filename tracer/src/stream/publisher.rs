//! Publishes the batches of one recording, on a thread of its own.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, io,
    path::PathBuf,
    pin::pin,
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
    select,
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    address::{Address, token_of},
    credentials::{self, Credentials},
    folder::{Disk, Folder, MAX_LINE, OVERHEAD, Stored},
    outage::Outage,
};
use crate::{
    clock, confine,
    model::Span,
    record::{Batch, BatchSink, Rotate},
};

/// Most compressed bytes that wait in memory: hours of a host while the server is away, and little beside the tracer's tables.
const MAX_QUEUE: usize = 16 << 20;

/// Most batches that wait in memory. An idle host has one every five seconds.
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

/// Longest time for the thread to end when it is told to.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

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
    /// The folder of the queue cannot be used.
    Queue(PathBuf, io::Error),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname(name) => write!(f, "this host's name `{name}` is no host name"),
            Self::Unknown(error) => write!(f, "the server's host is unknown: {error}"),
            Self::Queue(folder, error) => write!(f, "the queue in {}: {error}", folder.display()),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unknown(error) | Self::Queue(_, error) => Some(error),
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
    /// Batches in memory: all, or those that are not in the folder yet.
    queue: VecDeque<Queued>,
    /// Compressed bytes in memory.
    bytes: usize,
    /// Bytes in the folder.
    stored: u64,
    /// Observations without room that no part of the recording tells yet.
    left_out: u64,
    outage: Outage,
    /// The folder takes nothing now.
    is_refused: bool,
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
    /// Ends the thread, whatever waits.
    end: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Queue> {
        // A panic of the other thread leaves the queue as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the batches in memory to the folder. Those that the disk does not take stay in memory.
    fn store(&self, folder: Option<&mut Folder>) {
        let Some(folder) = folder else { return };
        loop {
            // Only this thread removes batches.
            let next = self.state().queue.front().map(|one| (one.number, one.observations, one.frame.clone()));
            let Some((number, observations, frame)) = next else { break };
            let stored = folder.store(number, observations, &frame);
            let mut state = self.state();
            let was_refused = std::mem::replace(&mut state.is_refused, stored.is_err());
            if let Err(error) = stored {
                drop(state);
                if !was_refused {
                    tracing::warn!(%error, "the folder of the queue takes no batches now: they wait in memory");
                }
                break;
            }
            state.bytes -= frame.len();
            state.queue.pop_front();
            state.stored = folder.bytes();
        }
        let left_out = self.state().left_out;
        folder.keep_left_out(left_out);
    }

    /// Waits for the outcome of an attempt, and stores the batches that come meanwhile. `None` if the thread has to end.
    async fn storing(
        &self,
        mut folder: Option<&mut Folder>,
        attempt: impl Future<Output = Outcome>,
    ) -> Option<Outcome> {
        let mut attempt = pin!(attempt);
        loop {
            select! {
                biased;
                outcome = &mut attempt => return Some(outcome),
                () = self.end.notified() => return None,
                () = self.waits.notified() => self.store(folder.as_deref_mut()),
            }
        }
    }

    /// Removes the first batch in memory.
    fn remove(&self, is_lost: bool) {
        let mut state = self.state();
        if let Some(queued) = state.queue.pop_front() {
            state.bytes -= queued.frame.len();
            if is_lost {
                state.undeliverable += queued.observations;
            }
        }
    }
}

/// Work of the thread.
struct Work {
    server: Vec<String>,
    credentials: Credentials,
    address: Address,
    host: String,
    /// First part of each message's id.
    id: String,
    shared: Arc<Shared>,
    folder: Option<Folder>,
    /// Closed when everything was delivered.
    done: mpsc::Sender<()>,
}

/// Publishes the batches of one recording.
pub struct Publisher {
    shared: Arc<Shared>,
    /// Most bytes that wait in the folder and on the way to it; `None` without a folder.
    disk_bytes: Option<u64>,
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
    /// Looks up the server, and opens the folder of the queue; without one, batches wait in memory. The server need not be
    /// up; the thread starts with the first batch, when the process has given up its rights.
    ///
    /// # Errors
    /// The server's host is unknown, this host's name cannot be part of a subject, or the folder cannot be used.
    pub fn new(
        address: &Address,
        credentials: Credentials,
        run: &Run,
        disk: Option<&Disk>,
    ) -> Result<Self, PublishError> {
        let host = token_of(&run.hostname).ok_or_else(|| PublishError::Hostname(run.hostname.clone()))?;
        let server = credentials::resolve(address).map_err(PublishError::Unknown)?;
        let (shared, (done, over)) = (Arc::<Shared>::default(), mpsc::channel());
        let id = format!("{}.{}", run.boot_id, run.began);
        let folder = disk.map(|disk| {
            let folder = Folder::open(disk, &address.cluster, &host, &id);
            folder.map_err(|error| PublishError::Queue(disk.folder.clone(), error))
        });
        let folder = folder.transpose()?;
        if let Some(folder) = &folder {
            let mut state = shared.state();
            (state.stored, state.left_out) = (folder.bytes(), folder.left_out());
        }
        let (address, disk_bytes) = (address.clone(), disk.map(|disk| disk.bytes));
        let work = Work { server, credentials, address, host, id, shared: Arc::clone(&shared), folder, done };
        Ok(Self { shared, disk_bytes, work: Some(work), done: over })
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

    /// Bytes and batches that wait, each as a share of a hundred of the room.
    fn fill(&self, state: &Queue) -> u64 {
        let share = |part: u64, whole: u64| part.saturating_mul(100) / whole.max(1);
        let memory =
            share(state.bytes as u64, MAX_QUEUE as u64).max(share(state.queue.len() as u64, MAX_BATCHES as u64));
        let disk = self.disk_bytes.map_or(0, |most| share(state.stored + state.bytes as u64, most));
        memory.max(disk)
    }

    /// True if a batch of this size has room.
    fn fits(&self, state: &Queue, frame: usize) -> bool {
        let in_memory = state.bytes + frame <= MAX_QUEUE && state.queue.len() < MAX_BATCHES;
        // Records in the folder are a little larger, and the first of a file has a line before it.
        let beside = OVERHEAD * (state.queue.len() as u64 + 1) + MAX_LINE as u64;
        let on_disk = |most| state.stored + (state.bytes + frame) as u64 + beside <= most;
        in_memory && self.disk_bytes.is_none_or(on_disk)
    }

    /// Has the thread end, whatever waits, and give the folder back.
    fn end(&self) {
        self.shared.state().is_closing = true;
        self.shared.waits.notify_one();
        self.shared.end.notify_one();
        if self.work.is_none() {
            let _over = self.done.recv_timeout(ENDED_WITHIN);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.end();
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
        if !self.fits(&state, batch.frame.len()) {
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
        self.fill(&self.shared.state()) < 50
    }

    fn left_out(&mut self, observations: u64) {
        self.shared.state().left_out = observations;
        self.shared.waits.notify_one();
    }

    fn left_out_before(&self) -> u64 {
        self.shared.state().left_out
    }

    fn finish(&mut self) -> u64 {
        let is_away = {
            let mut state = self.shared.state();
            state.is_closing = true;
            state.outage.is_present()
        };
        self.shared.waits.notify_one();
        // The next run publishes what is in the folder.
        let is_kept = is_away && self.disk_bytes.is_some();
        if self.work.is_none() && !is_kept {
            // Nothing is sent: the end of the other side is the message.
            let _over = self.done.recv_timeout(DRAINED_WITHIN);
        }
        self.end();
        let state = self.shared.state();
        if state.stored > 0 {
            tracing::warn!(bytes = state.stored, "batches wait on disk for the next run");
        }
        state.undeliverable + state.queue.iter().map(|queued| queued.observations).sum::<u64>()
    }
}

/// The batch that waits longest.
struct First {
    id: String,
    frame: Vec<u8>,
    is_stored: bool,
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
    async fn run(mut self) {
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
        let mut folder = self.folder.take();
        let mut pause = PAUSE;
        loop {
            self.shared.store(folder.as_mut());
            let Some(first) = self.first(folder.as_mut()) else {
                if self.shared.state().is_closing {
                    break;
                }
                self.shared.waits.notified().await;
                continue;
            };
            let is_stored = first.is_stored;
            let attempt = self.attempt(&context, first, pause);
            let Some(outcome) = self.shared.storing(folder.as_mut(), attempt).await else { break };
            pause = if matches!(outcome, Outcome::Later) { (pause * 2).min(LONGEST_PAUSE) } else { PAUSE };
            match (outcome, folder.as_mut().filter(|_| is_stored)) {
                (Outcome::Later, _) => {}
                (outcome, Some(folder)) => self.pass(folder, matches!(outcome, Outcome::Never)),
                (outcome, None) => self.shared.remove(matches!(outcome, Outcome::Never)),
            }
        }
        self.shared.store(folder.as_mut());
        drop(folder);
        drop(self.done);
    }

    /// The batch that waits longest. It stays in the queue until it is acknowledged.
    fn first(&self, folder: Option<&mut Folder>) -> Option<First> {
        if let Some(folder) = folder {
            let stored = folder.first();
            // Damage may have taken room.
            self.shared.state().stored = folder.bytes();
            if let Some(Stored { id, observations: _, frame }) = stored {
                return Some(First { id, frame, is_stored: true });
            }
        }
        let state = self.shared.state();
        let of_memory = |queued: &Queued| First {
            id: format!("{}.{}", self.id, queued.number),
            frame: queued.frame.clone(),
            is_stored: false,
        };
        state.queue.front().map(of_memory)
    }

    /// Removes the first batch of the folder.
    fn pass(&self, folder: &mut Folder, is_lost: bool) {
        let observations = folder.pass();
        let mut state = self.shared.state();
        state.stored = folder.bytes();
        if is_lost {
            state.undeliverable += observations;
        }
    }

    /// Tries to publish a batch. Waits before the next attempt if the server does not take it now.
    async fn attempt(&self, context: &jetstream::Context, first: First, pause: Duration) -> Outcome {
        let outcome = self.publish(context, first.id, first.frame).await;
        let is_later = matches!(outcome, Outcome::Later);
        let change = self.shared.state().outage.note(!is_later, Instant::now());
        if let Some(change) = change {
            tracing::warn!("{change}");
        }
        if is_later {
            sleep(pause).await;
        }
        outcome
    }

    async fn publish(&self, context: &jetstream::Context, id: String, frame: Vec<u8>) -> Outcome {
        // The client would queue each attempt until it is connected.
        if context.client().connection_state() != State::Connected {
            return Outcome::Later;
        }
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
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
        let mut refused = None;
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
                Err(error) if error.kind() == CreateStreamErrorKind::TimedOut => {
                    refused = Some(error);
                    break;
                }
                // The server may have room for a smaller one.
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            tracing::warn!(%error, stream = %self.address.stream(), "the stream cannot be created");
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
