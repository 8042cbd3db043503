//! `cut`: one session of a recording.

use std::ffi::OsString;

use super::{
    args,
    error::{Failure, named, tell},
    exit::Exit,
    input, resolve,
};
use crate::{
    cut::{Cut, CutError, Extent, Made},
    redact::Redactor,
    sink::phrases,
};

/// Most ids in one line of a message.
const MAX_NAMED: usize = 12;

pub(super) fn cut(args: &args::Cut, arguments: &[OsString]) -> Result<Exit, Failure> {
    if args.file.iter().any(|file| file.as_os_str() == "-") {
        return Err(Failure::usage("stdin cannot be cut", "use files: a recording is read several times"));
    }
    if args.output.as_os_str() == "-" {
        return Err(Failure::usage("a cut cannot be written to stdout", "use a file name: the cut is verified first"));
    }
    let failure = |error: CutError| failure(args, error);
    let found = Cut::find(&args.file, &args.id).map_err(failure)?;
    let made = found.write(&args.output, &resolve::line(arguments, &Redactor::default()));
    let Made { extent, written, of } = made.map_err(failure)?;
    let kept = phrases::counted(written.observations, "observation");
    let size = phrases::size(written.bytes);
    tell("cut", &format!("{}: {kept} of {of}, {size}: {}", found.session().id.0, named(&args.output)));
    match extent {
        Extent::Own => {}
        Extent::NotForeign => tell("notice", "it still names daemons, and processes without a session"),
        Extent::Whole => {
            tell("notice", "it is the whole recording, with all its sessions: a part gives another session")
        }
    }
    Ok(Exit::Done)
}

fn failure(args: &args::Cut, error: CutError) -> Failure {
    let id = named(args.id.as_ref());
    match error {
        CutError::Open(file, error) => input::open_failure(&file, &error),
        CutError::NoMatch(of) => Failure::new(
            Exit::NothingMatched,
            format!("no session matches `{id}`"),
            format!(
                "the recording has {}: `execpath ls --kind all --from FILE` lists them",
                phrases::counted(of as u64, "session")
            ),
        ),
        CutError::Several(ids) => {
            let names: Vec<&str> = ids.iter().map(|id| &*id.0).take(MAX_NAMED).collect();
            let more = if ids.len() > names.len() { ", …" } else { "" };
            Failure::new(
                Exit::NothingMatched,
                format!("`{id}` matches {} sessions", ids.len()),
                format!("use one of: {}{more}", names.join(", ")),
            )
        }
        CutError::NotReproduced => Failure::new(
            Exit::BadInput,
            "no part of the recording replays to the same session",
            "use the recording itself; for one in parts, give all its parts",
        ),
        CutError::Io(error) => Failure::new(
            Exit::BadInput,
            format!("cannot write {}: {error}", named(&args.output)),
            "use a new name in a directory that you can write to",
        ),
    }
}
