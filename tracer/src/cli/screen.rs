//! `watch`: checks for a terminal, and selects the source to show.

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    path::Path,
};

use super::{
    args,
    error::{Failure, live_failure, named},
    exit::Exit,
    follow,
    input::{self, open_failure},
    resolve,
};
use crate::{
    confine,
    stream::Address,
    tui::Theme,
    watch::{self, Feed, LiveTrace, Player, WatchError},
};

pub(super) fn watch(args: args::Screen, arguments: &[OsString]) -> Result<Exit, Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "`watch` needs a terminal",
            "use `execpath ls` or `trace` for pipes and files; `ls --watch 2s` repeats",
        ));
    }
    let theme = Theme { color: resolve::style(args.look.color).color };
    let panics = args.panics;
    input::stream_options(&args.since, args.from.as_slice())?;
    let feed = match args.file.clone() {
        Some(file) if Address::is_meant(&file) => {
            return Err(Failure::usage("`watch` follows a stream by `--from`", "use `watch --from nats://…`"));
        }
        Some(file) => {
            resolve::to_files(std::slice::from_ref(&file), &[]);
            recording(&file, args)?
        }
        None if args.from.is_some() => Feed::Live(follow::watch(args)?),
        None => {
            confine::prepare();
            let live = resolve::screen(args, arguments)?;
            let trace = LiveTrace::start(live).map_err(|error| terminal(&error))?;
            // This thread paints. The trace's thread inherited what it needs.
            confine::drop_capabilities();
            Feed::Live(trace)
        }
    };
    watch::watch(feed, theme, panics).map_err(|error| failure(&error))?;
    Ok(Exit::Done)
}

fn recording(file: &Path, args: args::Screen) -> Result<Feed, Failure> {
    if file == Path::new("-") {
        return Err(Failure::usage(
            "`watch` cannot read a recording from a pipe",
            "save it to a file first, or use `replay -`",
        ));
    }
    let look = resolve::look(args.look)?;
    let player = Player::open(file, look.filter, look.redactor).map_err(|error| open_failure(file, &error))?;
    Ok(Feed::Recording(Box::new(player)))
}

fn failure(error: &WatchError) -> Failure {
    match error {
        WatchError::Terminal(error) => terminal(error),
        WatchError::Live(error) => live_failure(error),
        WatchError::Follow(error) => follow::failure(error),
        WatchError::Recording(error) => Failure::new(
            Exit::BadInput,
            format!("cannot reread the recording: {}", named(Path::new(error))),
            "do not move the file while it is being watched",
        ),
        WatchError::Panic => Failure::new(
            Exit::Unsupported,
            "the trace stopped: internal error in execpath",
            "see the message above; `execpath trace` may still work",
        ),
    }
}

fn terminal(error: &io::Error) -> Failure {
    Failure::new(
        Exit::BadInput,
        format!("cannot use the terminal: {error}"),
        "use `execpath ls --watch 2s`, which needs less of a terminal",
    )
}
