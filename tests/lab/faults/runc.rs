//! In the place of `runc`: does something before an exec that the real one does only now and then, and then makes way for it.
//!
//! `PLAN` says what, and where the real one is. `listen PATH` is the other side of one of these things.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    process::{Command, ExitCode},
};

/// Two lines: what to do, and the real runc.
const PLAN: &str = "/run/execpath-lab-runc";
/// More than a pipe takes.
const WARNINGS: usize = 128 << 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, place] = &words[..]
        && word == "listen"
    {
        // Whoever connects is let in, and never answered.
        let listener = UnixListener::bind(place).expect("a free place");
        let mut all = Vec::new();
        for peer in listener.incoming() {
            all.push(peer);
        }
    }
    let plan = fs::read_to_string(PLAN).expect("a plan");
    let (what, real) = plan.trim_end().split_once('\n').expect("two lines");
    if words.iter().any(|word| word == "exec") {
        match what.split_once(' ') {
            // As one that warns of every mount of a host that has many.
            Some(("warn", _)) => std::io::stderr().write_all(&[b'.'; WARNINGS]).expect("a pipe"),
            // As one that asks systemd for a scope.
            Some(("ask", socket)) => {
                let mut answer = [0];
                UnixStream::connect(socket).and_then(|mut peer| peer.read(&mut answer)).expect("somebody listens");
            }
            _ => panic!("nobody knows how to {what}"),
        }
    }
    let error = Command::new(real).arg0("runc").args(words).exec();
    eprintln!("{real}: {error}");
    ExitCode::FAILURE
}
