//! Draws the sample sessions: `cargo run -p execpath-tests --example tree [jsonl]`.

use std::io;

use execpath::sink::{self, Style};
use execpath_tests::samples;

fn main() -> io::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "tree".to_owned());
    let format = sink::format(&name).ok_or_else(|| io::Error::other("no such format"))?;
    let color = std::env::var_os("NO_COLOR").is_none();
    let mut sink = (format.open)(Box::new(io::stdout()), Style { color });
    sink.host(&samples::header())?;
    let (findings, report) = samples::timeline();
    for seen in &findings {
        sink.change(seen)?;
    }
    sink.finish(&report)
}
