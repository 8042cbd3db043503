//! A plain TCP relay on the client's host, for tests of paths through a load balancer.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::network::Host;
use super::{golang, pki};

const SOURCE: &str = include_str!("../../../tests/lab/relay/main.go");

/// Data that a faulty relay holds back: the client's data on this connection, counted from 1, after so many TLS
/// records of application data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    connection: u32,
    records: u32,
}

impl std::str::FromStr for Hold {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (connection, records) = text.split_once(':').context("CONNECTION:RECORDS")?;
        Ok(Self { connection: connection.parse()?, records: records.parse()? })
    }
}

/// A relay from `listen` on the client's host to the API server. With `most`, it passes on only that many bytes to
/// each client and drops the rest. With `idle`, it closes a direction after so many seconds without data.
pub(super) fn to_api_server(listen: &str, hold: Option<Hold>, most: Option<u64>, idle: Option<u64>) -> Result<Command> {
    let mut relay = Host::Client.command(golang::program("relay", SOURCE)?)?;
    relay.args([listen, pki::API_SERVER.trim_start_matches("https://")]);
    if let Some(Hold { connection, records }) = hold {
        relay.args(["hold".to_owned(), connection.to_string(), records.to_string()]);
    }
    if let Some(most) = most {
        relay.args(["most".to_owned(), most.to_string()]);
    }
    if let Some(idle) = idle {
        relay.args(["idle".to_owned(), idle.to_string()]);
    }
    Ok(relay)
}
