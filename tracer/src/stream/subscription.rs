//! Follows a stream: delivers its messages from some time ago on, and those that come, in the order of the stream.
#![expect(clippy::disallowed_methods, reason = "edge: the time to read from is relative to now")]

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{self, consumer::DeliverPolicy};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use super::{
    address::Address,
    consumer::{self, ReadError, WAITED},
    credentials::Credentials,
    publisher::PART_EVERY,
};

/// Time beyond [`WAITED`] after which a request counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// Time for which the server keeps a consumer that asks for nothing.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Pause before the stream is read again after an error.
const PAUSE: Duration = Duration::from_millis(500);

/// Messages that wait for the receiver. The server keeps the others.
const CAPACITY: usize = 1_024;

/// A message of the stream.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Host of its subject, which the server has checked.
    pub host: String,
    /// `Nats-Msg-Id`.
    pub id: String,
    /// Position in the stream.
    pub position: u64,
    /// UTC at which the server stored it, in nanoseconds.
    pub stored_ns: u64,
    /// A batch, so it claims.
    pub payload: Vec<u8>,
}

/// News of a stream.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A message.
    Message(Delivered),
    /// All messages that the stream had are delivered.
    Current,
    /// Messages cannot be read now, and why. The subscription goes on.
    Trouble(String),
}

/// A stream that is followed on a thread of its own.
#[derive(Debug)]
pub struct Subscription {
    news: Receiver<Incoming>,
}

impl Subscription {
    /// Connects, and follows the stream from `since` ago on. A little more is read before: a recording can be read from the
    /// beginning of a part.
    ///
    /// # Errors
    /// The server is not reached, or has no stream for this cluster.
    pub fn start(address: &Address, credentials: &Credentials, since: Duration) -> Result<Self, ReadError> {
        let (server, runtime) = consumer::prepare(address)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let from_ns = now.saturating_sub(since + PART_EVERY).as_nanos();
        let (send, news) = mpsc::sync_channel(CAPACITY);
        let (address, credentials) = (address.clone(), credentials.clone());
        let (started, outcome) = mpsc::sync_channel(1);
        let work = move || {
            runtime.block_on(async {
                let context = match consumer::connect(&address, &credentials, &server).await {
                    Ok((context, _stream)) => context,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let _gone = started.send(Ok(()));
                let mut follower = Follower { address, context, news: send, from_ns, position: 0, is_current: false };
                while let Err(why) = follower.read().await {
                    if follower.news.send(Incoming::Trouble(why.to_string())).is_err() {
                        return;
                    }
                    sleep(PAUSE).await;
                }
            });
        };
        let spawned = thread::Builder::new().name("subscribe".to_owned()).spawn(work);
        spawned.map_err(ReadError::failed)?;
        outcome.recv().map_err(|_gone| ReadError::Failed("the subscription ended".to_owned()))??;
        Ok(Self { news })
    }

    /// Waits for news, for a bounded time. `Err` only after the subscription has ended.
    ///
    /// # Errors
    /// The subscription has ended.
    pub fn next(&self, within: Duration) -> Result<Option<Incoming>, ReadError> {
        match self.news.recv_timeout(within) {
            Ok(incoming) => Ok(Some(incoming)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ReadError::Failed("the subscription ended".to_owned())),
        }
    }
}

/// Work of the thread.
struct Follower {
    address: Address,
    context: jetstream::Context,
    news: SyncSender<Incoming>,
    /// UTC from which messages are read, in nanoseconds.
    from_ns: u128,
    /// Position of the last message; 0 before the first.
    position: u64,
    /// All messages that the stream had were delivered.
    is_current: bool,
}

impl Follower {
    /// Reads messages until the receiver is gone.
    async fn read(&mut self) -> Result<(), ReadError> {
        let stream = self.context.get_stream(self.address.stream()).await.map_err(ReadError::failed)?;
        // A stream that was created anew counts from 1.
        if stream.cached_info().state.last_sequence < self.position {
            self.position = 0;
        }
        let from = if self.position == 0 {
            consumer::stored_since(self.from_ns)?
        } else {
            DeliverPolicy::ByStartSequence { start_sequence: self.position + 1 }
        };
        let consumer = consumer::consume(&self.address, &stream, from, KEPT_FOR).await?;
        if consumer.cached_info().num_pending == 0 && !self.current() {
            return Ok(());
        }
        loop {
            let mut batch = consumer::request(&consumer).await?;
            loop {
                let message = timeout(WAITED + LOST_AFTER, batch.next()).await;
                let message = message.map_err(|_elapsed| ReadError::failed("the server does not answer"))?;
                let Some(message) = message else { break };
                let message = message.map_err(ReadError::failed)?;
                let info = message.info().map_err(ReadError::failed)?;
                self.position = info.stream_sequence;
                let is_last = info.pending == 0;
                if let Some(message) = consumer::of_host(&self.address, &message, &info) {
                    let delivered = Delivered {
                        host: message.host.to_owned(),
                        id: message.id.to_owned(),
                        position: message.position,
                        stored_ns: message.stored_ns,
                        payload: message.payload.to_vec(),
                    };
                    if self.news.send(Incoming::Message(delivered)).is_err() {
                        return Ok(());
                    }
                }
                if is_last && !self.current() {
                    return Ok(());
                }
            }
        }
    }

    /// Reports once that the stream has no more messages. Returns false if the receiver is gone.
    fn current(&mut self) -> bool {
        std::mem::replace(&mut self.is_current, true) || self.news.send(Incoming::Current).is_ok()
    }
}
