//! The stream of a cluster: its address, its credentials, and a recording to it.

use std::path::Path;

use super::{
    error::{Failure, named, tell},
    exit::Exit,
    shared_args::{Nats, Queue},
};
use crate::{
    confine::Net,
    engine::Shown,
    live::Live,
    probe_host,
    record::RecordTarget,
    sink::phrases::counted,
    stream::{Address, Credentials, Files, PublishError, Publisher, Run},
};

/// The address, if the text is meant as one.
pub(super) fn address(path: &Path) -> Result<Option<Address>, Failure> {
    if !Address::is_meant(path) {
        return Ok(None);
    }
    let parsed = Address::parse(path.to_str().unwrap_or_default());
    parsed.map(Some).map_err(|why| {
        Failure::usage(format!("not the address of a cluster's stream: {why}"), "example: `nats://nats.example/prod`")
    })
}

/// Refuses an option for streams if no place is a stream: it would do nothing.
pub(super) fn needed<'a>(
    option: Option<&'static str>,
    places: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Failure> {
    match option {
        Some(option) if !places.into_iter().any(Address::is_meant) => Err(Failure::usage(
            format!("`{option}` is for the stream of a cluster"),
            "omit it, or give the address of a stream: `nats://HOST[:PORT]/CLUSTER`",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses `--rotate` for a stream: it would do nothing.
pub(super) fn without_rotation(is_given: bool, target: Option<&Path>) -> Result<(), Failure> {
    if is_given && target.is_some_and(Address::is_meant) {
        return Err(Failure::usage("`--rotate` is for files", "omit it: the server limits a stream by age and size"));
    }
    Ok(())
}

/// Reads the credentials.
pub(super) fn credentials(nats: &Nats, address: &Address) -> Result<Credentials, Failure> {
    if let Some(option) = nats.credentials().filter(|_| address.has_token()) {
        return Err(Failure::usage(
            format!("a token in the address and `{option}` exclude each other"),
            "omit one of them",
        ));
    }
    if nats.nats_ca.is_some() && !address.tls {
        return Err(Failure::usage(
            "`--nats-ca` is for TLS",
            format!("use `tls://{}/{}`", address.host, address.cluster),
        ));
    }
    let Nats { nats_creds, nats_nkey, nats_token, nats_ca } = nats.clone();
    let files = Files { creds: nats_creds, nkey: nats_nkey, token: nats_token, ca: nats_ca };
    Credentials::read(&files, address).map_err(|(file, error)| {
        Failure::new(
            Exit::BadInput,
            format!("cannot use the credentials or certificates in {}: {error}", named(&file)),
            "use a file of `nsc` or `nk`, and certificates in PEM, that this user can read",
        )
    })
}

/// A recording to a stream, under the name of this host.
pub(super) fn target(address: &Address, nats: &Nats, queue: &Queue) -> Result<RecordTarget, Failure> {
    let host = probe_host::probe(None);
    let run = Run::now(host.hostname, host.boot_id);
    let publisher =
        Publisher::new(address, credentials(nats, address)?, &run, queue.disk().as_ref()).map_err(|error| {
            let hint = match error {
                PublishError::Hostname(_) => "`hostnamectl set-hostname NAME`: letters, digits, `-` and `.`",
                PublishError::Unknown(_) => "the server need not be up, but its name must be known",
                PublishError::Queue(..) => {
                    "`--queue` needs a folder of its own, of this user alone; it is created if its parent exists"
                }
            };
            Failure::new(Exit::BadInput, format!("cannot publish to {address}: {error}"), hint)
        })?;
    Ok(RecordTarget::of_batches(Box::new(publisher), Publisher::rotate()))
}

/// The trace with the connections that its recording needs.
pub(super) fn connecting(live: Live, is_published: bool) -> Live {
    let net = Net { connects: live.net.connects || is_published, ..live.net };
    Live { net, ..live }
}

/// Reports the observations that did not reach the stream.
pub(super) fn undelivered(shown: &Shown) {
    let undelivered = shown.written.map_or(0, |written| written.undelivered);
    if undelivered > 0 {
        tell("notice", &format!("{} never reached the stream", counted(undelivered, "observation")));
    }
}
