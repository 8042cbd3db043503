//! Reads the messages of a stream up to now.
#![expect(clippy::disallowed_methods, reason = "edge: the time to read is relative to now")]

use std::time::{Duration, SystemTime};

use async_nats::jetstream::stream::Stream;
use futures_util::{StreamExt, TryStreamExt};

use super::{
    address::Address,
    assembly::{Assembly, HostRecording},
    consumer::{self, ReadError, WAITED},
    credentials::Credentials,
    publisher::PART_EVERY,
};

/// Most names of hosts that are silent for the whole time asked for.
const MAX_SILENT: usize = 10_000;

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
    let (server, runtime) = consumer::prepare(address)?;
    runtime.block_on(async {
        let (_context, stream) = consumer::connect(address, credentials, &server).await?;
        let mut fetched = messages(address, &stream, since + PART_EVERY).await?;
        fetched.silent = silent(address, &stream, &fetched.hosts).await?;
        Ok(fetched)
    })
}

/// The messages from `since` ago to the present.
async fn messages(address: &Address, stream: &Stream, since: Duration) -> Result<Fetched, ReadError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let from = consumer::stored_since(now.saturating_sub(since).as_nanos())?;
    let consumer = consumer::consume(address, stream, from, WAITED).await?;
    let mut left = consumer.cached_info().num_pending;
    // Messages that come meanwhile are left for the next reading.
    let last = stream.cached_info().state.last_sequence;
    let (mut assembly, mut messages) = (Assembly::default(), 0);
    while left > 0 {
        let mut batch = consumer::request(&consumer).await?;
        let before = messages;
        while let Some(message) = batch.next().await {
            let message = message.map_err(ReadError::failed)?;
            let info = message.info().map_err(ReadError::failed)?;
            left = if info.stream_sequence >= last { 0 } else { info.pending };
            messages += 1;
            let Some(message) = consumer::of_host(address, &message, &info) else { continue };
            let taken = assembly.take(message);
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
    let subjects = stream.info_with_subjects(address.subjects()).await.map_err(ReadError::failed)?;
    let subjects: Vec<(String, usize)> = subjects.take(MAX_SILENT).try_collect().await.map_err(ReadError::failed)?;
    let hosts = subjects.iter().filter_map(|(subject, _)| address.host_of(subject));
    let is_silent = |host: &&str| heard.binary_search_by(|one| one.host.as_str().cmp(*host)).is_err();
    let mut silent: Vec<String> = hosts.filter(is_silent).map(str::to_owned).collect();
    silent.sort_unstable();
    Ok(silent)
}
