//! A plain TCP relay on the client's host, as load balancers are: for tests of paths through one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::network::Host;
use super::pki;
use crate::progress::Progress;
use crate::tools::{command, find, is_program, run};
use crate::{apt, cache};

const SOURCE: &str = include_str!("../../../tests/lab/relay/main.go");

/// The relay's program: built once for each version of its source.
pub(super) fn program() -> Result<PathBuf> {
    let dir = cache::dir("execpath-lab")?.join("relay");
    let (program, source) = (dir.join("relay"), dir.join("main.go"));
    if is_program(&program) && fs::read_to_string(&source).is_ok_and(|text| text == SOURCE) {
        return Ok(program);
    }
    if find("go").is_none() {
        apt::install(&["golang-go"], &Progress::new())?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let new = dir.join("new.go");
    fs::write(&new, SOURCE)?;
    let go = find("go").context("golang-go brought no go")?;
    let mut build = command(go);
    build.current_dir(&dir).envs([("GO111MODULE", "off"), ("CGO_ENABLED", "0")]);
    run(build.args(["build", "-o", "relay", "new.go"]))?;
    // The source last: it says that the program beside it is whole.
    fs::rename(&new, &source)?;
    Ok(program)
}

/// A relay from `listen` on the client's host to the API server.
pub(super) fn to_api_server(listen: &str) -> Result<Command> {
    let mut relay = Host::Client.command(program()?)?;
    relay.args([listen, pki::API_SERVER.trim_start_matches("https://")]);
    Ok(relay)
}
