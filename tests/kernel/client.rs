//! The client's terminal, and the processes above it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
};

use execpath::model::{Ancestry, Fact, Observation, ProcessInfo, TaskKey};
use execpath_tests::binary;
use rustix::{
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use crate::{
    helper_process::HelperProcess,
    trace::{DEADLINE, key},
    wait::wait_for,
};

/// A tracer, killed on drop.
struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        // The tracer may have exited already.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A helper process below a shell with this terminal.
fn on_terminal(path: &str) -> HelperProcess {
    let terminal = File::options().read(true).write(true).open(path).expect("a terminal");
    let mut shell = Command::new("sh");
    // A command afterwards keeps the shell running as the parent.
    shell.args(["-c", "\"$0\" \"$@\"; exit 3"]).arg(std::env::current_exe().expect("a path"));
    let take = move || {
        setsid()?;
        ioctl_tiocsctty(&terminal)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls: it allocates nothing and takes no lock.
    unsafe { shell.pre_exec(take) };
    HelperProcess::by(shell)
}

/// Facts recorded so far about the process that connected from this address.
fn recorded(recording: &std::path::Path, from: &str) -> Option<(TaskKey, ProcessInfo, Ancestry)> {
    let text = std::fs::read_to_string(recording).expect("a recording");
    let seen: Vec<Observation> = text.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).collect();
    let task = seen.iter().find_map(|seen| match &seen.fact {
        Fact::Connected { socket, .. } if socket.tuple?.local.to_string() == from => seen.task,
        _ => None,
    })?;
    let mut own = seen.into_iter().filter(|seen| seen.task == Some(task)).map(|seen| seen.fact);
    let process = own.by_ref().find_map(|fact| if let Fact::ProcessSeen(info) = fact { Some(*info) } else { None })?;
    let ancestry = own.find_map(|fact| if let Fact::Ancestry(ancestry) = fact { Some(*ancestry) } else { None })?;
    Some((task, process, ancestry))
}

#[test]
fn trace_reports_terminal_and_ancestors_of_client() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("a terminal of our own");
    unlockpt(&terminal).expect("a terminal of our own");
    let path = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("ASCII");
    let mut server = HelperProcess::start();
    let listening = server.request("listen l 127.0.0.1:0");
    let (_, port) = listening[2].rsplit_once(':').expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording.jsonl");
    let tracer = binary::command()
        .args(["trace", "-o", "jsonl", "--apiserver-port", port, "--record"])
        .arg(&recording)
        .stdout(Stdio::piped())
        .spawn()
        .expect("execpath starts");
    let mut tracer = Tracer(tracer);
    let mut stdout = BufReader::new(tracer.0.stdout.take().expect("stdout"));
    stdout.read_line(&mut String::new()).expect("the header");
    let rest = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let mut client = on_terminal(&path);
    let connected = client.request(&format!("connect a {}", listening[2]));
    // The recording is flushed once a second.
    let (task, process, ancestry) =
        wait_for(DEADLINE, || recorded(&recording, &connected[2])).expect("the client is recorded");
    kill_process(Pid::from_child(&tracer.0), Signal::INT).expect("execpath is running");
    tracer.0.wait().expect("execpath exits");
    rest.join().expect("ends").expect("stdout can be read");

    assert_ne!(task.tgid, client.pid(), "the shell is the client's parent");
    assert_eq!(process.tty.as_deref(), path.strip_prefix("/dev/"));
    let above: Vec<TaskKey> = ancestry.parents.iter().take(2).map(|above| above.task).collect();
    assert_eq!(above, [key(client.pid()), key(std::process::id())]);
    assert_eq!(ancestry.parents[0].comm.as_str(), Some("sh"));
    assert_eq!(ancestry.parents[0].uid, Some(0));
    assert_eq!(ancestry.names.get(&0).map(String::as_str), Some("root"));
}
