//! Makes a long recording from a short one, for `cargo xtask bench replay`: `repeat RECORDING OBSERVATIONS
//! OUT.jsonl.zst`.

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use execpath::record::Reader;
use execpath_tests::repeat::Repeat;

/// Compression level: the file is packed once and read a few times.
const LEVEL: i32 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recording, observations, out] = &arguments[..] else {
        return Err("usage: repeat RECORDING OBSERVATIONS OUT".into());
    };
    let mut reader = Reader::open(Path::new(recording))?;
    let header = serde_json::to_vec(reader.header())?;
    let seen: Vec<_> = reader.by_ref().collect();
    let repeat = Repeat::new(&seen);
    let copies = observations.parse::<u64>()?.div_ceil(repeat.len() as u64);
    let mut out = zstd::Encoder::new(BufWriter::new(File::create(out)?), LEVEL)?;
    out.write_all(&header)?;
    out.write_all(b"\n")?;
    for line in repeat.lines(copies) {
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.finish()?.flush()?;
    Ok(())
}
