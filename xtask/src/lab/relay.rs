//! A plain TCP relay on the client's host, as load balancers are: for tests of paths through one.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::network::Host;
use super::{golang, pki};

const SOURCE: &str = include_str!("../../../tests/lab/relay/main.go");

/// What a bad relay holds back: of that connection, counted from 1, what the client sends after so many TLS records of application
/// data.
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

/// A relay from `listen` on the client's host to the API server. Of what comes back for a client it passes on `most` bytes, and drops
/// the rest.
pub(super) fn to_api_server(listen: &str, hold: Option<Hold>, most: Option<u64>) -> Result<Command> {
    let mut relay = Host::Client.command(golang::program("relay", SOURCE)?)?;
    relay.args([listen, pki::API_SERVER.trim_start_matches("https://")]);
    if let Some(Hold { connection, records }) = hold {
        relay.args(["hold".to_owned(), connection.to_string(), records.to_string()]);
    }
    if let Some(most) = most {
        relay.args(["most".to_owned(), most.to_string()]);
    }
    Ok(relay)
}
