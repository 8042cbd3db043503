//! Recordings in a message stream: published to a real server of NATS, and read back.

mod assembly;
mod follow;
mod late_start;
mod permissions;
mod publish;
mod queue;
mod roundtrip;
mod tls;
