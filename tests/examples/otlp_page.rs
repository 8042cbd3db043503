//! Writes docs/otlp.md, with the attributes of traces and logs: `cargo xtask docs [--check]`.

use std::{error::Error, fs, path::Path};

use execpath::otlp::ATTRIBUTES;

const INTRO: &str = "# OpenTelemetry

`execpath trace`, `record` and `agent` send traces, logs and metrics with `--otlp HOST:PORT`, by gRPC without TLS: to a collector on the
same node, which has the credentials for the way further. Made by `cargo xtask docs`.

## Traces

* Each session is one trace, sent when the session has ended. Sessions that are open at the end of execpath have none.
* The span of the session has a child for each hop, and each hop has a child for each link that begins there. The span link `next-hop` of a
  link names the hop to which it leads.
* Ids follow from the session's id and the host's boot id: a session has the same ids in each export.
* Hosts do not know each other's spans, so no span has a parent on another host. Where a path leaves the host, the span of the session has a
  span link `client-connection`. Its ids follow from the client's address and port, which all hosts on that connection see; so the traces of
  client and control plane share it. Ports are used again: compare the times, too. `execpath merge` joins recordings by proof.
* A gap is an event `execpath.gap` of the session's span. The status is an error if the command was not started; the exit code of a command
  that was is its user's affair.

## Logs

A record for each session that has ended (`execpath.session.closed`), for each attempt that did not become a session
(`execpath.attempt.failed`, WARN), and for each verdict that begins (`execpath.verdict`; WARN for a fault). Records carry the ids of their
session's trace.

## Metrics

The families of [metrics.md](metrics.md), cumulative, once a minute and at the end.

## Losses

* At most 16,384 spans and 4,096 log records wait. Beyond that, the newest are dropped: a session's spans as a whole. The trace never waits.
* A call that fails in a way that may pass is made again after at most five seconds, for as long as execpath runs. A call lasts at most ten
  seconds. After a call without an answer the receiver may have the message twice.
* At the end execpath sends what waits, for at most five seconds.
* `execpath_otlp_sent_total`, `execpath_otlp_dropped_total` and `execpath_otlp_queued` count at `--metrics` and in the metrics sent.
* Names are looked up once, before execpath gives up its rights. After that it opens TCP connections only.

## Attributes

| attribute | meaning |
|---|---|
";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let check = match words.as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("--check or nothing".into()),
    };
    let rows = ATTRIBUTES.iter().map(|attribute| format!("| `{}` | {} |\n", attribute.name, attribute.about));
    let page = INTRO.to_owned() + &rows.collect::<String>();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/otlp.md");
    if !check {
        return Ok(fs::write(path, page)?);
    }
    if fs::read_to_string(path)? == page {
        Ok(())
    } else {
        Err("docs/otlp.md is not what the attributes say: cargo xtask docs".into())
    }
}
