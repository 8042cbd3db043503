//! `replay`, and recordings for `ls`, `show` and `diagnose`.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    args,
    error::{Failure, named, tell},
    exit::Exit,
    input, resolve,
    values::Moment,
};
use crate::{
    engine::{self, Flow, Playback, Setup, Status},
    model::{BootTime, Span},
    record::{End, Reader},
    sink,
};

pub(super) fn replay(args: args::Replay, verbose: u8) -> Result<Exit, Failure> {
    // Open the recording before creating any output: a mistyped name must leave nothing behind.
    let mut reader = input::open(&args.file, &args.since, &resolve::paths(&args.output.output))?;
    if let Some(at) = args.at {
        let mut sinks = resolve::as_of(&args.output)?;
        resolve::detail(&mut sinks, verbose);
        let setup = resolve::silent(args.filter, args.privacy);
        let narrow = resolve::is_narrow(&setup.filter);
        let seen = play(reader, setup, Some(at))?.status();
        sink::render(&mut sinks, &seen.header, &seen.report).map_err(|error| Failure::writing(&error))?;
        return if narrow && seen.report.sessions.is_empty() {
            Err(Failure::new(
                Exit::NothingMatched,
                "no session open at that moment matches the filter",
                "filters match whole names; omit `--at` to search the whole recording",
            ))
        } else {
            Ok(Exit::Done)
        };
    }
    let speed = args.speed;
    let mut setup = resolve::replay(args)?;
    resolve::detail(&mut setup.sinks, verbose);
    let narrow = resolve::is_narrow(&setup.filter);
    let shown = match speed {
        None => engine::replay(&mut reader, setup, |_at| Flow::Continue),
        Some(speed) => Pace::new(speed).and_then(|mut pace| engine::replay(&mut reader, setup, |at| pace.wait(at))),
    };
    let shown = shown.map_err(|error| Failure::writing(&error))?;
    ended(&reader)?;
    if narrow && shown.sessions == 0 {
        let of = shown.of;
        return Err(Failure::new(
            Exit::NothingMatched,
            "no session in the recording matches the filter",
            format!("the recording has {of} session{}; filters match whole names", if of == 1 { "" } else { "s" }),
        ));
    }
    Ok(Exit::Done)
}

/// State of a recording at the moment asked for. Without a moment: the whole recording with all its faults. `at_all`
/// includes closed sessions.
pub(super) fn then(reader: Reader, at: Option<Moment>, setup: Setup, at_all: bool) -> Result<Status, Failure> {
    let is_whole = at.is_none();
    let played = play(reader, setup, at)?;
    if is_whole {
        let seen = played.status_of_whole(at_all);
        let dropped = seen.report.diagnosis.dropped;
        if dropped > 0 {
            tell("notice", &format!("the {dropped} oldest faults of this recording were dropped to bound memory"));
        }
        return Ok(seen);
    }
    let mut seen = if at_all { played.status_with_closed() } else { played.status() };
    // Faults that were over before that moment are not part of the answer.
    seen.report.diagnosis.over.clear();
    Ok(seen)
}

fn play(reader: Reader, setup: Setup, at: Option<Moment>) -> Result<Playback, Failure> {
    let anchor = reader.header().anchor;
    let mut played = Playback::new(reader, setup).map_err(|error| Failure::writing(&error))?;
    let start = played.start().unwrap_or_default();
    let Some(at) = at else {
        played.to_the_end().map_err(|error| Failure::writing(&error))?;
        ended(played.reader())?;
        return Ok(played);
    };
    let at = match at {
        Moment::Utc(ns) => anchor.boot_time(ns),
        Moment::After(after) => start.plus(Span(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))),
    };
    let utc = |at: BootTime| sink::view::moment(anchor, at);
    if at < start {
        tell("notice", &format!("this moment is before the start of the recording, {}", utc(start)));
    }
    let more = played.to(at).map_err(|error| Failure::writing(&error))?;
    if !more {
        ended(played.reader())?;
        if at > played.end() {
            tell("notice", &format!("this moment is after the end of the recording, {}", utc(played.end())));
        }
    }
    Ok(played)
}

/// Reports an unclean end of a recording that was shown.
pub(super) fn ended(reader: &Reader) -> Result<(), Failure> {
    let file = if reader.path().as_os_str().is_empty() { "-".to_owned() } else { named(reader.path()) };
    ended_as(reader.end(), &file, "shown")
}

/// Reports an unclean end of a recording. `done` is the participle for the part before the end: "shown", "merged".
pub(super) fn ended_as(end: Option<&End>, file: &str, done: &str) -> Result<(), Failure> {
    match end {
        Some(End::Damaged(damage)) => Err(Failure::new(
            Exit::BadInput,
            format!("the recording is damaged: {file}: {damage}"),
            format!("the part before the damage was {done}; use another copy of the file if there is one"),
        )),
        Some(End::Cut { lines }) => {
            let text = format!("the recording is truncated after line {lines}: {file}; the part before was {done}");
            tell("notice", &text);
            Ok(())
        }
        Some(End::Continues { part }) => {
            tell("notice", &format!("the recording continues in part {part}: {file} is not the last part"));
            Ok(())
        }
        Some(End::Clean) | None => Ok(()),
    }
}

/// Replays at the recorded speed times a factor.
struct Pace {
    speed: f64,
    /// Time at which the first observation was replayed, and its time in the recording.
    first: Option<(Instant, BootTime)>,
    runtime: tokio::runtime::Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Pace {
    fn new(speed: f64) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(inside);
        Ok(Self { speed, first: None, runtime, interrupt, terminate })
    }

    fn wait(&mut self, at: BootTime) -> Flow {
        let (begun, first) = *self.first.get_or_insert_with(|| (Instant::now(), at));
        #[expect(clippy::cast_precision_loss, reason = "a wait, and exact for three months of nanoseconds")]
        let after = at.since(first).0 as f64 / 1e9 / self.speed;
        let after = Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX);
        let Some(due) = begun.checked_add(after) else { return Flow::Stop };
        let Self { runtime, interrupt, terminate, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => Flow::Stop,
                _ = terminate.recv() => Flow::Stop,
                () = sleep_until(due) => Flow::Continue,
            }
        })
    }
}
