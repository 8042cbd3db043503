//! Plays runc: `demo-runc … --log LOG … exec --process FILE --detach --pid-file FILE CONTAINER`.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use rustix::{
    process::setsid,
    thread::{UnshareFlags, unshare_unsafe},
};
use serde::Deserialize;

use crate::demo::dir::VARIABLE;

#[derive(Deserialize)]
struct Process {
    args: Vec<String>,
}

pub(super) fn play(arguments: &[String]) -> io::Result<ExitCode> {
    let after = |name: &str| {
        let found = arguments.iter().skip_while(|word| *word != name).nth(1);
        found.ok_or_else(|| io::Error::other(format!("{name} is missing")))
    };
    let process: Process = serde_json::from_slice(&std::fs::read(after("--process")?)?)?;
    match start(&process) {
        // The shim reads the file after this process has exited.
        Ok(pid) => std::fs::write(after("--pid-file")?, pid.to_string()).map(|()| ExitCode::SUCCESS),
        Err(error) => {
            let name = process.args.first().map_or("", String::as_str);
            std::fs::write(after("--log")?, format!("{name}: {error}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Starts the command in its own mount namespace, as in every container. It keeps the host's root, since there is no
/// image.
fn start(process: &Process) -> io::Result<u32> {
    let (program, arguments) = process.args.split_first().ok_or_else(|| io::Error::other("no command"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_remove(VARIABLE);
    let enter = || {
        setsid()?;
        // SAFETY: the table of file descriptors stays shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        Ok(())
    };
    // SAFETY: between fork and execve, the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(enter) };
    // Returns once execve has succeeded. The shim becomes the child's parent when this process exits.
    Ok(command.spawn()?.id())
}
