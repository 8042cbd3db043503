//! Reads the messages of a stream up to now.
#![expect(clippy::disallowed_methods, reason = "edge: the time to read is relative to now")]

use std::{
    error::Error,
    fmt, io,
    time::{Duration, SystemTime},
};

use async_nats::{
    datetime,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, pull},
        stream::Stream,
    },
};
use futures_util::{StreamExt, TryStreamExt};

use super::{
    address::Address,
    assembly::{Assembly, HostRecording, Message},
    credentials::{self, CONNECT_WITHIN, Credentials},
    publisher::PART_EVERY,
};

/// Messages of one request.
const BATCH: usize = 500;

/// Bytes of one request: a slow connection delivers them before the request expires.
const BATCH_BYTES: usize = 8 << 20;

/// Longest time without a message while the server has some.
const WAITED: Duration = Duration::from_secs(5);

/// Most names of hosts that are silent for the whole time asked for.
const MAX_SILENT: usize = 10_000;

/// Why a stream cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The server is not reached, or refuses the credentials.
    Connect(String),
    /// The server has no stream for this cluster, or the credentials do not show it.
    NoStream(String),
    /// Reading failed.
    Failed(String),
    /// The messages are more than memory allows.
    TooMuch,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "cannot connect: {why}"),
            Self::NoStream(why) => write!(f, "no stream of this cluster: {why}"),
            Self::Failed(why) => f.write_str(why),
            Self::TooMuch => f.write_str("the messages of this time take more than 256 MiB"),
        }
    }
}

impl Error for ReadError {}

/// The content of a stream.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Recordings of the hosts that were heard, by name.
    pub hosts: Vec<HostRecording>,
    /// Hosts that the stream knows, and that published nothing in that time.
    pub silent: Vec<String>,
    /// Messages read.
    pub messages: u64,
    /// UTC of the reading host when it began to read.
    pub read_at: Duration,
}

/// Reads the messages that the stream has now, from `since` ago on. A little more is read before: a recording can be read
/// from the beginning of a part.
///
/// # Errors
/// The stream cannot be read as a whole.
pub fn fetch(address: &Address, credentials: &Credentials, since: Duration) -> Result<Fetched, ReadError> {
    let server = credentials::resolve(address).map_err(|error| ReadError::Connect(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error: io::Error| ReadError::Failed(error.to_string()))?;
    runtime.block_on(read(address, credentials, &server, since))
}

async fn read(
    address: &Address,
    credentials: &Credentials,
    server: &str,
    since: Duration,
) -> Result<Fetched, ReadError> {
    let inbox = format!("_INBOX.execpath-reader.{}", address.cluster);
    let connecting = credentials.options("execpath reader", &inbox).connect(server);
    let client = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    let client = client.map_err(|_elapsed| ReadError::Connect("no answer within 5 s".to_owned()))?;
    let client = client.map_err(|error| ReadError::Connect(error.to_string()))?;
    let mut context = jetstream::new(client);
    context.set_timeout(WAITED);
    let stream = context.get_stream(address.stream()).await;
    let stream = stream.map_err(|error| ReadError::NoStream(error.to_string()))?;
    let mut fetched = messages(address, &stream, since + PART_EVERY).await?;
    fetched.silent = silent(address, &stream, &fetched.hosts).await?;
    Ok(fetched)
}

/// The messages from `since` ago to the present.
async fn messages(address: &Address, stream: &Stream, since: Duration) -> Result<Fetched, ReadError> {
    let failed = |error: &dyn fmt::Display| ReadError::Failed(error.to_string());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let from = datetime::from_nanos(i128::try_from(now.saturating_sub(since).as_nanos()).unwrap_or_default())
        .map_err(|error| failed(&error))?;
    let consumer = stream.create_consumer(pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time: from },
        ack_policy: AckPolicy::None,
        filter_subject: address.subjects(),
        inactive_threshold: WAITED,
        memory_storage: true,
        ..pull::Config::default()
    });
    let consumer = consumer.await.map_err(|error| failed(&error))?;
    let mut left = consumer.cached_info().num_pending;
    // Messages that come meanwhile are left for the next reading.
    let last = stream.cached_info().state.last_sequence;
    let (mut assembly, mut messages) = (Assembly::default(), 0);
    while left > 0 {
        let request = consumer.batch().max_messages(BATCH).max_bytes(BATCH_BYTES).expires(WAITED);
        let mut batch = request.messages().await.map_err(|error| failed(&error))?;
        let before = messages;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| failed(&error))?;
            let info = message.info().map_err(|error| failed(&error))?;
            left = if info.stream_sequence >= last { 0 } else { info.pending };
            messages += 1;
            let stored_ns = u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default();
            let id = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
            let Some(host) = address.host_of(&message.subject) else { continue };
            let taken = assembly.take(Message {
                host,
                id: id.map_or("", |id| id.as_str()),
                position: info.stream_sequence,
                stored_ns,
                payload: &message.payload,
            });
            if !taken {
                return Err(ReadError::TooMuch);
            }
            if left == 0 {
                break;
            }
        }
        if messages == before {
            return Err(ReadError::Failed("the server delivers no more messages".to_owned()));
        }
    }
    Ok(Fetched { hosts: assembly.finish(), silent: Vec::new(), messages, read_at: now })
}

/// Hosts of the stream that were not heard.
async fn silent(address: &Address, stream: &Stream, heard: &[HostRecording]) -> Result<Vec<String>, ReadError> {
    let failed = |error: &dyn fmt::Display| ReadError::Failed(error.to_string());
    let subjects = stream.info_with_subjects(address.subjects()).await.map_err(|error| failed(&error))?;
    let subjects: Vec<(String, usize)> =
        subjects.take(MAX_SILENT).try_collect().await.map_err(|error| failed(&error))?;
    let hosts = subjects.iter().filter_map(|(subject, _)| address.host_of(subject));
    let is_silent = |host: &&str| heard.binary_search_by(|one| one.host.as_str().cmp(*host)).is_err();
    let mut silent: Vec<String> = hosts.filter(is_silent).map(str::to_owned).collect();
    silent.sort_unstable();
    Ok(silent)
}
