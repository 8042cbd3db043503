//! `run`: a command untouched, and the cause of its failure.

use std::{ffi::OsString, io, path::Path};

use super::{
    args,
    error::{Failure, named, tell},
    exit::Exit,
    resolve,
};
use crate::{
    record,
    run::{Front, NotStarted, OBSERVER, Outcome},
};

pub(super) fn run(args: args::Run, arguments: &[OsString]) -> Result<Exit, Failure> {
    if std::env::var_os(OBSERVER).is_some() {
        let observer = resolve::observer(args, arguments)?;
        return observer.run().map(|()| Exit::Done).map_err(|error| Failure::writing(&error));
    }
    if let Some(path) = &args.record {
        can_be_recorded(path)?;
    }
    let front = Front { command: &args.command, arguments, wait: args.wait, doubts_success: args.fail_on_lie };
    let Outcome { status, cause, lie, recorded, not_recorded } =
        front.run().map_err(|error| not_started(&args.command, &error))?;
    if !cause.is_empty() {
        let recording = match (&args.record, recorded) {
            (Some(path), true) => format!("; recording: {}", named(path)),
            _ => not_recorded.map_or(String::new(), |why| format!("; not recorded: {why}")),
        };
        tell("execpath", &format!("{cause}{recording}"));
    }
    Ok(if lie && args.fail_on_lie { Exit::Lie } else { Exit::Command(status.code()) })
}

/// Checks before the command starts that a recording can be written later.
fn can_be_recorded(path: &Path) -> Result<(), Failure> {
    let refused =
        |why: &str, hint| Failure::new(Exit::BadInput, format!("cannot record to {}: {why}", named(path)), hint);
    if path == Path::new("-") {
        return Err(Failure::usage("`--record -` would mix with the command's stdout", "use a file name"));
    }
    if path.symlink_metadata().is_ok() {
        return Err(refused(
            "the file exists",
            "recordings are never overwritten: use another name, or remove the file",
        ));
    }
    record::unnamed(path)
        .map(drop)
        .map_err(|error| refused(&error.to_string(), "the directory must exist and be writable"))
}

fn not_started(command: &[OsString], error: &NotStarted) -> Failure {
    let program = command.first().map_or_else(String::new, |program| named(Path::new(program)));
    match error {
        NotStarted::Missing(error) => Failure::new(
            Exit::Command(127),
            format!("cannot run {program}: {}", text(error)),
            "the command after `--` is run without a shell: check its name and PATH",
        ),
        NotStarted::NotExecutable(error) => Failure::new(
            Exit::Command(126),
            format!("cannot run {program}: {}", text(error)),
            "the command must be an executable file; for a script, its interpreter must exist",
        ),
        NotStarted::Signals(error) => Failure::new(
            Exit::Unsupported,
            format!("cannot wait for {program}: {}", text(error)),
            "this host refuses to wait for signals: run the command without execpath",
        ),
    }
}

fn text(error: &io::Error) -> String {
    error.to_string()
}
