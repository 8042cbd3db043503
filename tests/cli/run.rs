//! `run`: the command's own streams, signals and exit code, with or without privileges.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Stdio},
};

use execpath_tests::binary::{Ran, command, finish, run};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Rounds over all exit codes; 10,240 runs with `EXECPATH_SOAK=1`.
fn rounds() -> usize {
    if std::env::var_os("EXECPATH_SOAK").is_some() { 40 } else { 1 }
}

fn shell(script: &str) -> Ran {
    run(["run", "--", "sh", "-c", script])
}

/// Exactly one line, from execpath.
fn is_one_line(stderr: &str) -> bool {
    stderr.lines().count() == 1 && stderr.starts_with("execpath: ") && stderr.ends_with('\n')
}

#[test]
fn run_exits_with_the_command_s_code() {
    for _ in 0..rounds() {
        for code in 0..=255 {
            let ran = shell(&format!("exit {code}"));
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
            assert!(if code == 0 { ran.stderr.is_empty() } else { is_one_line(&ran.stderr) }, "{code}: {}", ran.stderr);
        }
    }
}

#[test]
fn run_reports_a_signal_like_a_shell() {
    for signal in ["HUP", "INT", "QUIT", "ILL", "ABRT", "KILL", "SEGV", "PIPE", "ALRM", "TERM", "USR1", "USR2"] {
        // QUIT and others would leave a core file.
        let ran = shell(&format!("ulimit -c 0; kill -{signal} $$"));
        let by_shell =
            std::process::Command::new("sh").args(["-c", &format!("ulimit -c 0; kill -{signal} $$")]).status();
        let number = by_shell.expect("a shell").signal().expect("killed by the signal");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(128 + number), ""), "{signal}: {}", ran.stderr);
        assert!(is_one_line(&ran.stderr), "{signal}: {}", ran.stderr);
    }
}

#[test]
fn streams_belong_to_the_command() {
    let mut child = command()
        .args(["run", "--", "sh", "-c", "cat; echo done >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("execpath starts");
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut stdin, sending) = (child.stdin.take().expect("a pipe"), sent.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sending));
    let ran = child.wait_with_output().expect("execpath exits");
    writer.join().expect("a thread").expect("the command reads all");
    assert_eq!(ran.status.code(), Some(0));
    assert!(ran.stdout == sent, "{} bytes of {}", ran.stdout.len(), sent.len());
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "done\n");
}

#[test]
fn missing_command_exits_127_and_unexecutable_126() {
    let missing = run(["run", "--", "no-such-program"]);
    assert_eq!(missing.code, Some(127));
    assert!(missing.stderr.starts_with("error: cannot run no-such-program: "), "{}", missing.stderr);
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text");
    fs::write(&text, "no program").expect("the folder can be written");
    let refused = run(["run".as_ref(), "--".as_ref(), text.as_os_str()]);
    assert_eq!(refused.code, Some(126));
    assert_eq!(refused.stderr.lines().count(), 2, "{}", refused.stderr);
    let none = run(["run"]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
}

/// A running command that has printed a line.
fn ready(script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command()
        .args(["run", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("execpath starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("the command prints");
    assert_eq!(line, "ready\n");
    (child, stdout)
}

fn pid(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid")
}

#[test]
fn signals_to_execpath_reach_the_command() {
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
    ] {
        let (mut child, _stdout) = ready(&format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.02; done"));
        kill_process(pid(&child), signal).expect("execpath runs");
        assert_eq!(child.wait().expect("execpath exits").code(), Some(42), "{name}");
    }
}

#[test]
fn execpath_stops_and_continues_with_the_command() {
    let (mut child, mut stdout) = ready("echo ready; kill -STOP $$; echo continued; exit 7");
    let (_, status) = waitpid(Some(pid(&child)), WaitOptions::UNTRACED).expect("a child").expect("a change");
    assert!(status.stopped(), "{status:?}");
    kill_process(pid(&child), Signal::CONT).expect("execpath is stopped");
    assert_eq!(child.wait().expect("execpath exits").code(), Some(7));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(rest, "continued\n");
}

#[test]
fn command_keeps_process_group_session_and_environment() {
    let ran = finish(command().args(["run", "--", "sh", "-c", "ps -o pgid=,sid= -p $$ $PPID; env"]).env("MARK", "x y"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut lines = ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next(), lines.next(), "{}", ran.stdout);
    assert!(ran.stdout.lines().any(|line| line == "MARK=x y"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("EXECPATH_RUN_OBSERVER"), "{}", ran.stdout);
}

#[test]
fn recording_is_written_on_failure_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fail.jsonl.zst");
    let path = path.to_string_lossy();
    let empty = |folder: &Path| fs::read_dir(folder).expect("the folder").next().is_none();
    let run_with = |script: &str| run(["run", "--record", &path, "--", "sh", "-c", script]);
    let well = run_with("sleep 0.3; exit 0");
    assert_eq!((well.code, well.stderr.as_str()), (Some(0), ""));
    assert!(empty(folder.path()), "nothing is left of a success");
    let failed = run_with("sleep 1; exit 9");
    assert_eq!(failed.code, Some(9));
    if failed.stderr.contains("recording: ") {
        let again = run(["replay", "-o", "json", &path]);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        let refused = run_with("echo ran");
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(5), ""), "the command was not run");
        assert!(refused.stderr.contains("the file exists"), "{}", refused.stderr);
    } else {
        eprintln!("skipped: no recording without privileges: {}", failed.stderr);
        assert!(empty(folder.path()));
    }
    let nowhere = run(["run", "--record", "/no/such/folder/a.zst", "--", "echo", "ran"]);
    assert_eq!((nowhere.code, nowhere.stdout.as_str()), (Some(5), ""), "{}", nowhere.stderr);
}
