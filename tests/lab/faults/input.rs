//! Input whose EOF does not arrive.

use std::{
    fs::{self, File},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use super::Session;
use crate::kubectl::{Exec, Kubectl, Mode, kubectl, mark};

/// More bytes than all buffers on the path take.
const BYTES: u64 = 64 << 20;

/// Opens the writing end of the FIFO for the exec's input: its reader never sees EOF.
fn hold(session: &Session) -> File {
    let exec = session.listed().expect("the session is listed")["exec_id"].as_str().expect("an exec id").to_owned();
    let runtime = session.pid("runtime");
    let files = fs::read_dir(format!("/proc/{runtime}/fd"))
        .expect("the runtime runs")
        .filter_map(|file| file.ok()?.path().read_link().ok());
    let is_it = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(&format!("{exec}-stdin")));
    let fifo = files.into_iter().find(is_it).expect("the exec's FIFO");
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("small");
    File::options().write(true).custom_flags(flags).open(fifo).expect("the FIFO opens")
}

#[test]
fn f20_other_process_holds_input_fifo() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("input");
    File::create(&input).and_then(|file| file.set_len(BYTES)).expect("a file");
    let mark = mark();
    let script = format!("until [ -e /{mark} ]; do sleep 0.1; done; cat > /dev/null; :");
    let exec = Exec { mode: Mode::Stdin, ..Exec::sh(&script) };
    let mut command = kubectl(exec.version, exec.user, exec.uid);
    command.args(exec.arguments()).stdin(File::open(&input).expect("a file"));
    let session = Session::of(mark.clone(), Kubectl::start(&mut command, None));
    let _held = hold(&session);
    // Let the command read.
    let go = format!("/proc/{}/root/{mark}", session.pid("process"));
    File::create(&go).expect("a file in the container");
    session.is("F20");
    fs::remove_file(go).expect("the file in the container");
}
