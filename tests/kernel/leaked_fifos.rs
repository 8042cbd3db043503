//! A leaking runtime, played by this process: it keeps the FIFOs of finished execs open.

use std::{
    fs::{self, File},
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use execpath_tests::binary;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

/// Number of finished execs with open FIFOs.
const LEAKED: u64 = 5;

/// A process of a running exec: its shim holds the FIFO, too.
struct Shim(Child);

impl Drop for Shim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An exec's FIFO at containerd's path, opened for reading and writing so that no open blocks.
fn fifo(folder: &Path, exec: u64) -> File {
    let path = folder.join(format!("{exec:064x}-stdout"));
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    File::options().read(true).write(true).open(path).expect("the FIFO opens")
}

#[test]
fn f29_runtime_keeps_fifos_of_finished_execs_open() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("containers").join("c".repeat(64)).join("io/1");
    fs::create_dir_all(&folder).expect("a folder");
    let socket = root.path().join("runtime.sock");
    let _listener = UnixListener::bind(&socket).expect("listens");
    let runs = fifo(&folder, 0);
    let shim = Command::new("sleep").arg("600").stdin(runs.try_clone().expect("a copy")).stdout(Stdio::null()).spawn();
    let _shim = Shim(shim.expect("sleep starts"));
    let _leaked: Vec<File> = (1..=LEAKED).map(|exec| fifo(&folder, exec)).collect();

    let mut diagnose = binary::command();
    diagnose.args(["diagnose", "-o", "json", "--interval", "2500ms", "--runtime-socket"]).arg(&socket);
    let output = diagnose.output().expect("execpath starts");
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let own = u64::from(std::process::id());
    let own: Vec<&Value> = found.iter().filter(|verdict| verdict["pid"] == own).collect();
    let codes: Vec<&str> = own.iter().filter_map(|verdict| verdict["code"].as_str()).collect();
    assert_eq!((codes, output.status.code()), (vec!["F29"], Some(10)), "{found:#?}");
    assert_eq!(own[0]["evidence"][0]["value"], LEAKED, "{found:#?}");
}
