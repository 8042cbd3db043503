//! A plain TCP relay on the client's host, as load balancers are: for tests of paths through one.

use std::process::Command;

use anyhow::Result;

use super::network::Host;
use super::{golang, pki};

const SOURCE: &str = include_str!("../../../tests/lab/relay/main.go");

/// A relay from `listen` on the client's host to the API server. Of what comes back for a client it passes on `most` bytes, and
/// drops the rest.
pub(super) fn to_api_server(listen: &str, most: Option<u64>) -> Result<Command> {
    let mut relay = Host::Client.command(golang::program("relay", SOURCE)?)?;
    relay.args([listen, pki::API_SERVER.trim_start_matches("https://")]);
    relay.args(most.map(|most| most.to_string()));
    Ok(relay)
}
