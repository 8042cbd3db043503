//! The recordings of a cluster's hosts in a stream of NATS JetStream. A recording is the wire format: a message is a
//! batch of its lines, on the subject of its host. docs/cluster.md is the contract.
//!
//! A publisher never holds up the trace: batches wait in a bounded queue, in memory or on disk, and a full queue refuses them. A reader trusts
//! nothing: a message can only speak for the host of its subject, which the server checks by the publisher's permissions.

mod address;
mod assembly;
mod consumer;
mod credentials;
mod folder;
mod joined;
mod outage;
mod publisher;
mod reader;
mod subscription;
mod tls;

pub use self::{
    address::{Address, token_of, without_token},
    assembly::{Assembly, HostRecording, Message, Step, Tail, Tally},
    consumer::ReadError,
    credentials::{Credentials, Files},
    folder::Disk,
    publisher::{PublishError, Publisher, Run},
    reader::{Fetched, fetch},
    subscription::{Delivered, Incoming, Subscription},
};
