//! `execpath render`: pictures of a recording.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
    sync::PoisonError,
};

use super::{
    args,
    error::{Failure, named, tell},
    exit::Exit,
    input, replay,
    resolve::{self, Output},
};
use crate::{
    engine,
    render::{Collector, PICTURES, Picture, Timeline},
};

/// Reads the whole recording first, because no file must be created if nothing matches.
pub(super) fn render(args: args::Render) -> Result<Exit, Failure> {
    let outputs = resolve::outputs(&args.output, PICTURES)?;
    let written: Vec<&Path> = outputs.iter().filter_map(|output| output.path.as_deref()).collect();
    let mut reader = input::open(std::slice::from_ref(&args.file), &args.since, &written)?;
    let (sink, collector) = Collector::shared();
    let (setup, narrow) = resolve::render(args.filter, args.privacy, sink);
    let shown =
        engine::replay(&mut reader, setup, |_at| engine::Flow::Continue).map_err(|error| Failure::writing(&error))?;
    let mut timeline = collector.lock().unwrap_or_else(PoisonError::into_inner).timeline();
    if let Some(id) = &args.id {
        timeline.retain_matching(id);
    }
    if timeline.sessions.is_empty() && (narrow || args.id.is_some()) {
        let of = shown.of;
        return Err(Failure::new(
            Exit::NothingMatched,
            "no session in the recording matches",
            format!(
                "the recording has {of} session{}: `execpath replay {}` lists them",
                if of == 1 { "" } else { "s" },
                named(&args.file)
            ),
        ));
    }
    for output in &outputs {
        write(output, &timeline)?;
    }
    if timeline.sessions.is_empty() {
        tell("notice", "the recording has no session of a user; `--kind all` also draws probes");
    }
    replay::ended(&reader)?;
    Ok(Exit::Done)
}

fn write(output: &Output<Picture>, timeline: &Timeline) -> Result<(), Failure> {
    let target: Box<dyn Write> = match &output.path {
        None => Box::new(io::stdout()),
        Some(path) => Box::new(resolve::create(path)?),
    };
    let mut target = BufWriter::new(target);
    let written = (output.format.write)(timeline, &mut target).and_then(|()| target.flush());
    written.map_err(|error| Failure::writing(&error))
}
