//! `execpath render`: pictures of a recording.

use std::io::{self, BufWriter, Write};

use super::{
    args,
    error::{Failure, named, tell},
    exit::Exit,
    finish_reading, open_failure,
    resolve::{self, Output},
};
use crate::{
    engine,
    record::Reader,
    render::{Collector, PICTURES, Picture, Story},
};

/// Reads the whole recording first: whether anything matches is known before a file is made.
pub(super) fn render(args: args::Render) -> Result<Exit, Failure> {
    let outputs = resolve::outputs(&args.output, PICTURES)?;
    let mut reader = Reader::open(&args.file).map_err(|error| open_failure(&args.file, &error))?;
    let (sink, collector) = Collector::shared();
    let (setup, narrow) = resolve::render(args.filter, args.privacy, sink);
    let shown = engine::replay(&mut reader, setup).map_err(|error| Failure::writing(&error))?;
    let mut story = collector.borrow_mut().story();
    if let Some(id) = &args.id {
        story.choose(id);
    }
    if story.tales.is_empty() && (narrow || args.id.is_some()) {
        let of = shown.of;
        return Err(Failure::new(
            Exit::NothingMatched,
            "no session in the recording matches",
            format!(
                "it holds {of} session{} in all: `execpath replay {}` lists them",
                if of == 1 { "" } else { "s" },
                named(&args.file)
            ),
        ));
    }
    for output in &outputs {
        write(output, &story)?;
    }
    if story.tales.is_empty() {
        tell("notice", "the recording holds no session of a person; `--kind all` draws probes, too");
    }
    finish_reading(&args.file, &reader)?;
    Ok(Exit::Done)
}

fn write(output: &Output<Picture>, story: &Story) -> Result<(), Failure> {
    let target: Box<dyn Write> = match &output.path {
        None => Box::new(io::stdout()),
        Some(path) => Box::new(resolve::create(path)?),
    };
    let mut target = BufWriter::new(target);
    let written = (output.format.write)(story, &mut target).and_then(|()| target.flush());
    written.map_err(|error| Failure::writing(&error))
}
