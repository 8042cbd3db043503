//! Consumers of a stream: the parts that one reading and a subscription share.

use std::{error::Error, fmt, time::Duration};

use async_nats::{
    datetime,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
        message::Info,
        stream::Stream,
    },
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use super::{
    address::Address,
    assembly::Message,
    credentials::{self, CONNECT_WITHIN, Credentials},
};

/// Messages and bytes of one request: a slow connection delivers them before the request expires, and neither side keeps more
/// in memory.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 8 << 20;

/// Longest time that a request waits for messages.
pub(super) const WAITED: Duration = Duration::from_secs(5);

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

impl ReadError {
    pub(super) fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
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

/// Addresses of the server, and a runtime for its connection.
pub(super) fn prepare(address: &Address) -> Result<(Vec<String>, Runtime), ReadError> {
    let server = credentials::resolve(address).map_err(|error| ReadError::Connect(error.to_string()))?;
    Ok((server, Builder::new_current_thread().enable_all().build().map_err(ReadError::failed)?))
}

/// Connects as a reader, and finds the cluster's stream.
pub(super) async fn connect(
    address: &Address,
    credentials: &Credentials,
    server: &[String],
) -> Result<(jetstream::Context, Stream), ReadError> {
    let inbox = format!("_INBOX.execpath-reader.{}", address.cluster);
    let client = timeout(CONNECT_WITHIN, credentials.options("execpath reader", &inbox).connect(server)).await;
    let client = client.map_err(|_elapsed| ReadError::Connect("no answer within 5 s".to_owned()))?;
    let client = client.map_err(|error| ReadError::Connect(error.to_string()))?;
    let mut context = jetstream::new(client);
    context.set_timeout(WAITED);
    let stream = context.get_stream(address.stream()).await;
    let stream = stream.map_err(|error| ReadError::NoStream(error.to_string()))?;
    Ok((context, stream))
}

/// The policy for all messages that the server has stored since this UTC, in nanoseconds.
pub(super) fn stored_since(utc_ns: u128) -> Result<DeliverPolicy, ReadError> {
    let start_time = datetime::from_nanos(i128::try_from(utc_ns).unwrap_or_default()).map_err(ReadError::failed)?;
    Ok(DeliverPolicy::ByStartTime { start_time })
}

/// A consumer of the cluster's messages. The server forgets it after it has asked for nothing in the time `kept`.
pub(super) async fn consume(
    address: &Address,
    stream: &Stream,
    deliver_policy: DeliverPolicy,
    kept: Duration,
) -> Result<Consumer<pull::Config>, ReadError> {
    let config = pull::Config {
        deliver_policy,
        ack_policy: AckPolicy::None,
        filter_subject: address.subjects(),
        inactive_threshold: kept,
        memory_storage: true,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.map_err(ReadError::failed)
}

/// Asks for messages. Ends when the server has delivered as many as fit, or after [`WAITED`]; the rest comes with the next
/// request.
pub(super) async fn request(consumer: &Consumer<pull::Config>) -> Result<pull::Batch, ReadError> {
    let request = consumer.batch().max_messages(BATCH).max_bytes(BATCH_BYTES).expires(WAITED);
    request.messages().await.map_err(ReadError::failed)
}

/// A message on the subject of a host; `None` on another subject.
pub(super) fn of_host<'a>(address: &Address, message: &'a jetstream::Message, info: &Info<'_>) -> Option<Message<'a>> {
    let id = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
    Some(Message {
        host: address.host_of(&message.subject)?,
        id: id.map_or("", |id| id.as_str()),
        position: info.stream_sequence,
        stored_ns: u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default(),
        payload: &message.payload,
    })
}
