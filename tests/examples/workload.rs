//! Workloads of `cargo xtask bench`.
//!
//! * `workload make RECORDING SESSIONS AT_ONCE OUT.jsonl.zst` makes a long recording from a short one. At least SESSIONS
//!   copies, AT_ONCE at a time; prints the number of observations.
//! * `workload read FILE` reads a recording, and nothing else.
//! * `workload correlate FILE` reads a recording, and passes it to a correlator. Prints the sessions closed, and those
//!   complete.

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write as _, stdout},
    path::Path,
};

use execpath::{
    correlate::{Correlator, Options},
    model::Change,
    record::Reader,
};
use execpath_tests::repeat::Repeat;

/// Compression level: the file is packed once and read a few times.
const LEVEL: i32 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", recording, sessions, at_once, out] => make(recording, sessions.parse()?, at_once.parse()?, out),
        ["read", file] => {
            let read = Reader::open(Path::new(file))?.count();
            Ok(writeln!(stdout(), "{read} observations")?)
        }
        ["correlate", file] => correlate(file),
        _ => Err("usage: workload make RECORDING SESSIONS AT_ONCE OUT | read FILE | correlate FILE".into()),
    }
}

fn make(recording: &str, sessions: u64, at_once: u64, out: &str) -> Result<(), Box<dyn Error>> {
    let mut reader = Reader::open(Path::new(recording))?;
    let header = serde_json::to_vec(reader.header())?;
    let seen: Vec<_> = reader.by_ref().collect();
    let mut out = zstd::Encoder::new(BufWriter::new(File::create(out)?), LEVEL)?;
    out.write_all(&header)?;
    out.write_all(b"\n")?;
    let mut observations = 0_u64;
    for line in Repeat::new(&seen).rounds(sessions, at_once.max(1)) {
        observations += 1;
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.finish()?.flush()?;
    Ok(writeln!(stdout(), "{observations} observations")?)
}

fn correlate(file: &str) -> Result<(), Box<dyn Error>> {
    let mut reader = Reader::open(Path::new(file))?;
    let pairing = reader.header().pairing();
    let mut correlator = Correlator::new(&reader.header().host, &Options { pairing, ..Options::default() });
    let (mut closed, mut complete) = (0_u64, 0_u64);
    let mut count = |correlator: &mut Correlator| {
        for finding in correlator.drain() {
            if let Change::Closed(session) = finding.change
                && session.merged_into.is_none()
            {
                closed += 1;
                complete += u64::from(session.complete);
            }
        }
        drop(correlator.wants());
    };
    for seen in reader.by_ref() {
        correlator.ingest(seen);
        count(&mut correlator);
    }
    correlator.flush();
    count(&mut correlator);
    Ok(writeln!(stdout(), "{closed} sessions closed, {complete} complete")?)
}
