//! Publishes a recording with the rights of a live command, where a forgotten system call ends the process. After the first half
//! it prints a line, and waits for one.
//!
//! Arguments: address, recording, time at which the run began, folder of the queue, its size in bytes.

use std::{
    env,
    error::Error,
    io::{self, Write},
    path::PathBuf,
};

use execpath::{
    confine::{self, Denied, Net, Settings},
    stream::{Disk, Files, Run},
};
use execpath_tests::publishing::{feed_pieces, often, publisher, run_of};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, recording, began, folder, bytes] = words.as_slice() else { return Err("five arguments".into()) };
    let recording = PathBuf::from(recording);
    let run = Run { began: began.parse()?, ..run_of(&recording) };
    let disk = Disk { folder: PathBuf::from(folder), bytes: bytes.parse()? };
    confine::enable(Settings { denied: Denied::Kill, has_children: false });
    let publisher = publisher(address, &Files::default(), &run, Some(&disk));
    // The recording is read after this, as a trace reads its host.
    confine::to_look(None, Net { connects: true, ..Net::default() });
    let written = feed_pieces(&recording, Box::new(publisher), often(), 2, Vec::new(), |_| {
        let mut line = String::new();
        let mut out = io::stdout();
        writeln!(out, "half").and_then(|()| out.flush()).expect("a reader");
        io::stdin().read_line(&mut line).expect("a line");
    });
    writeln!(io::stdout(), "{} {}", written.observations, written.undelivered)?;
    Ok(())
}
