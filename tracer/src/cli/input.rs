//! Recordings for commands that read them: files, or the stream of a cluster.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    error::{Failure, named, tell},
    exit::Exit,
    resolve,
    shared_args::Since,
    stream::{address, credentials, needed},
};
use crate::{
    confine, escape,
    merge::{FromStream, Merge},
    record::{End, OpenError, Reader, RecordTarget, Writer},
    sink::phrases::{NAME, counted},
    stream::{self, Address, Fetched, HostRecording, ReadError},
};

/// Time after which a host counts as silent: three times the longest pause of a living one.
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// Most names in one line.
const MAX_NAMED: usize = 12;

/// Refuses options for streams if none of the places is one.
pub(super) fn stream_options(since: &Since, places: &[PathBuf]) -> Result<(), Failure> {
    needed(since.given(), places.iter().map(PathBuf::as_path))
}

/// Opens files, or the stream of a cluster, for a command that writes the files `written` and needs no other rights.
pub(super) fn open(files: &[PathBuf], since: &Since, written: &[&Path]) -> Result<Reader, Failure> {
    stream_options(since, files)?;
    let mut addresses = Vec::new();
    for file in files {
        addresses.extend(address(file)?);
    }
    match addresses.as_slice() {
        [] => {
            resolve::to_files(files, written);
            Reader::open_all(files).map_err(|(file, error)| open_failure(&file, &error))
        }
        [address] if files.len() == 1 => {
            // Made before the process gives up the right to make files.
            let memory = memory()?;
            let fetched = fetch(address, since)?;
            resolve::to_files(&[], written);
            let (merge, _) = merged(address, &fetched)?;
            let target = RecordTarget::of_file(memory.try_clone().map_err(|error| Failure::writing(&error))?, true);
            let written = Writer::begin(target, &merge.header(String::new())).and_then(|writer| merge.write(writer));
            written.map_err(|error| Failure::writing(&error))?;
            read_again(address, memory)
        }
        [..] => Err(Failure::usage(
            "a cluster's stream cannot be joined with other recordings",
            "record each to a file: `execpath record FILE --from nats://…`",
        )),
    }
}

/// Records a stream to a file.
pub(super) fn record(from: &Path, file: &Path, since: &Since, command: String) -> Result<Exit, Failure> {
    let Some(address) = address(from)? else {
        return Err(Failure::usage(
            "`--from` of `record` takes the address of a cluster's stream",
            "example: `--from nats://nats.example/prod`; `merge` joins files",
        ));
    };
    if Address::is_meant(file) {
        return Err(Failure::usage("a stream cannot be recorded to a stream", "give a file name"));
    }
    // An address that cannot be read must leave no file behind.
    let fetched = fetch(&address, since)?;
    let target = resolve::place(file, None)?;
    resolve::to_files(&[], &[]);
    let (merge, hosts) = merged(&address, &fetched)?;
    let written = Writer::begin(target, &merge.header(command)).and_then(|writer| merge.write(writer));
    let written = written.map_err(|error| Failure::writing(&error))?;
    let hosts = counted(hosts as u64, "host");
    tell("recorded", &format!("{} of {hosts}: {}", counted(written, "observation"), named(file)));
    Ok(Exit::Done)
}

fn fetch(address: &Address, since: &Since) -> Result<Fetched, Failure> {
    confine::drop_capabilities();
    let credentials = credentials(&since.nats, address)?;
    stream::fetch(address, &credentials, since.since()).map_err(|error| read_failure(address, &error))
}

/// Why a stream cannot be read.
pub(super) fn read_failure(address: &Address, error: &ReadError) -> Failure {
    let hint = match error {
        ReadError::Connect(_) => "check address and credentials; `nats server check connection` tests them",
        ReadError::NoStream(_) => "`execpath record nats://HOST/CLUSTER` on each host fills it; check the name",
        ReadError::Failed(_) => "a reader needs the permissions that docs/cluster.md lists",
        ReadError::TooMuch => "use a shorter `--since`",
    };
    Failure::new(Exit::BadInput, format!("cannot read {address}: {error}"), hint)
}

/// Merges the hosts that were heard, and reports each one that is not heard as it should. Returns the number of hosts.
fn merged(address: &Address, fetched: &Fetched) -> Result<(Merge, usize), Failure> {
    let heard: Vec<&HostRecording> = fetched.hosts.iter().filter(|host| !host.bytes.is_empty()).collect();
    report(address, fetched, &heard);
    if heard.is_empty() {
        return Err(Failure::new(
            Exit::NothingMatched,
            format!("no host of {address} can be read in this time"),
            "use a longer `--since`; a new host is readable within seconds, a damaged one within two minutes",
        ));
    }
    let streams = heard.iter().map(|host| FromStream {
        host: host.host.clone(),
        bytes: Arc::from(host.bytes.as_slice()),
        stored_ns: host.last_ns,
    });
    let failure = |(host, error): (PathBuf, _)| {
        Failure::new(Exit::BadInput, format!("cannot merge host {}: {error}", named(&host)), "check its clock")
    };
    let (merge, left_out) = Merge::survey_streams(streams.collect()).map_err(failure)?;
    for (host, error) in &left_out {
        tell("notice", &format!("host {} is left out: {error}", named(host)));
    }
    for input in merge.inputs() {
        if let Some(End::Damaged(damage)) = &input.end {
            let host = named(input.origin.name());
            tell("notice", &format!("host {host}: its recording is damaged, the rest is left out: {damage}"));
        }
    }
    if merge.inputs().is_empty() {
        return Err(Failure::new(Exit::BadInput, "no host can be read", "the notices above have the reasons"));
    }
    let hosts = merge.inputs().len();
    Ok((merge, hosts))
}

/// Names in a line, the first ones if they are many.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.map(|name| escape::str(name, NAME)).collect();
    let more = names.len().saturating_sub(MAX_NAMED);
    names.truncate(MAX_NAMED);
    if more > 0 { format!("{}, and {more} more", names.join(", ")) } else { names.join(", ") }
}

/// Lists the hosts, and what is wrong with them.
fn report(address: &Address, fetched: &Fetched, heard: &[&HostRecording]) {
    let names = list(heard.iter().map(|host| host.host.as_str()));
    let hosts = counted(heard.len() as u64, "host");
    let messages = counted(fetched.messages, "message");
    let of = if heard.is_empty() { String::new() } else { format!(": {names}") };
    tell("stream", &format!("{address}: {hosts} heard in {messages}{of}"));
    if !fetched.silent.is_empty() {
        let hosts = counted(fetched.silent.len() as u64, "host");
        let names = list(fetched.silent.iter().map(String::as_str));
        tell("notice", &format!("{hosts} not heard in this time: {names}"));
    }
    for host in &fetched.hosts {
        let say = |text: &str| tell("notice", &format!("host {}: {text}", escape::str(&host.host, NAME)));
        let silent = fetched.read_at.saturating_sub(Duration::from_nanos(host.last_ns));
        if silent > SILENT_AFTER {
            say(&format!("silent for {} s", silent.as_secs()));
        }
        let tally = &host.tally;
        if tally.missing > 0 {
            say(&format!("{} missing: shown from then on", counted(tally.missing, "message")));
        }
        if tally.earlier > 0 {
            say(&format!("{} of earlier runs left out", counted(tally.earlier, "message")));
        }
        if let Some((position, why)) = &tally.damage {
            let damaged = counted(tally.damaged, "message");
            say(&format!("{damaged} damaged, the last at position {position} of the stream: {why}"));
        }
        if host.bytes.is_empty() {
            say("nothing to show: no message begins a recording in this time");
        }
    }
}

/// A file that has no name and is memory alone.
fn memory() -> Result<File, Failure> {
    let made = rustix::fs::memfd_create("execpath", rustix::fs::MemfdFlags::CLOEXEC);
    made.map(File::from).map_err(|error| Failure::writing(&error.into()))
}

fn read_again(address: &Address, mut memory: File) -> Result<Reader, Failure> {
    memory.seek(SeekFrom::Start(0)).map_err(|error| Failure::writing(&error))?;
    Reader::new(Box::new(memory)).map_err(|error| open_failure(Path::new(&address.to_string()), &error))
}

/// Why a recording cannot be opened.
pub(super) fn open_failure(file: &Path, error: &OpenError) -> Failure {
    let hint = match error {
        OpenError::Io(_) => "use a file written by `record FILE` or `trace --record FILE`, or `-` for stdin",
        OpenError::Empty => "the recording was stopped before it wrote anything",
        OpenError::NotARecording(_) => {
            "use a file written by `record` or `trace --record`; the output of `-o jsonl` \
                                        is not a recording"
        }
        OpenError::Newer { .. } => "use that version of execpath or a later one",
        OpenError::Apart(_) => "give consecutive parts of one recording; use `merge` for recordings of several hosts",
        OpenError::TooFar => "one recording has a wrong clock or is damaged: merge the others",
        OpenError::Merged => "merge all original recordings at once",
    };
    Failure::new(Exit::BadInput, format!("cannot open the recording: {}: {error}", named(file)), hint)
}
