//! `merge`: one recording out of several hosts' recordings.

use std::ffi::OsString;

use super::{
    args,
    error::{Failure, named, tell},
    exit::Exit,
    input, replay, resolve,
};
use crate::{
    escape,
    merge::{By, Clock, Input, Merge},
    record::Writer,
    redact::Redactor,
    sink::phrases::{NAME, counted},
};

const NS_PER_SECOND: u128 = 1_000_000_000;

pub(super) fn merge(args: &args::Merge, arguments: &[OsString]) -> Result<Exit, Failure> {
    if args.file.iter().any(|file| file.as_os_str() == "-") {
        return Err(Failure::usage("stdin cannot be merged", "use files: each recording is read twice"));
    }
    resolve::to_files(&args.file, &[&args.output]);
    let merge = Merge::survey(&args.file).map_err(|(file, error)| input::open_failure(&file, &error))?;
    let place = resolve::place(&args.output, None)?;
    let header = merge.header(resolve::line(arguments, &Redactor::default()));
    let written = Writer::begin(place, &header).and_then(|writer| merge.write(writer));
    let written = written.map_err(|error| Failure::writing(&error))?;
    for input in merge.inputs() {
        tell(&escape::str(&input.host().hostname, NAME), &clock(input.clock));
    }
    tell("merged", &format!("{written} observations of {} recordings: {}", merge.inputs().len(), named(&args.output)));
    merge.inputs().iter().try_for_each(whole)?;
    Ok(Exit::Done)
}

/// The relation of a clock to the first recording's clock, in words.
fn clock(clock: Clock) -> String {
    let of = |connections: usize| counted(connections as u64, "connection");
    match clock.by {
        By::Itself => "reference clock".to_owned(),
        By::Agreed { connections } => format!("clock agrees ({})", of(connections)),
        By::Measured { connections, within, off } => {
            let side = if off < 0 { "behind" } else { "ahead" };
            let within = within.map_or_else(
                || "assuming that the fastest connection took no time".to_owned(),
                |within| format!("within {} ms", within.as_millis() + 1),
            );
            format!("clock was {} {side}, corrected by {} ({within})", seconds(off.unsigned_abs()), of(connections))
        }
        By::Believed { connections } => {
            format!("clock not corrected: {} did not suffice", of(connections))
        }
        By::Unproved => "clock not corrected: no connection to the other hosts".to_owned(),
    }
}

fn seconds(ns: u128) -> String {
    format!("{}.{:03} s", ns / NS_PER_SECOND, ns % NS_PER_SECOND / 1_000_000)
}

/// Reports if a part of the merged recording ends early.
fn whole(input: &Input) -> Result<(), Failure> {
    replay::ended_as(input.end.as_ref(), &named(input.origin.name()), "merged")
}
