//! Output that is closed by its reader, or cannot be written.

use std::{fs::OpenOptions, io::Write, path::PathBuf, process::Stdio};

use execpath_tests::binary::{command, finish};

fn recording() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/hand-made.jsonl")
}

#[test]
fn closed_pipe_exits_0_silently() {
    for arguments in
        [vec!["replay".into(), recording()], vec!["--help".into()], vec!["completions".into(), "zsh".into()]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ran = finish(command().args(arguments).stdout(writer));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn full_disk_exits_5() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut command = command();
    let ran = command
        .args(["replay".into(), recording()])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("execpath runs");
    assert_eq!(ran.status.code(), Some(5));
    assert_eq!(
        String::from_utf8_lossy(&ran.stderr),
        "error: cannot write: No space left on device (os error 28)\nhint: check free space and permissions at the \
         destination\n"
    );
}

#[test]
fn replay_reads_stdin() {
    let mut child = command()
        .args(["replay", "-", "-o", "jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("execpath starts");
    let bytes = std::fs::read(recording()).expect("the recording");
    child.stdin.take().expect("a pipe").write_all(&bytes).expect("execpath reads its stdin");
    let ran = child.wait_with_output().expect("execpath exits");
    assert!(ran.status.success());
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with(r#"{"v":1,"type":"host","hostname":"worker""#));
}

#[test]
fn color_option_controls_colours() {
    let colour = |when: &str| finish(command().args(["replay".into(), recording()]).args(["--color", when])).stdout;
    assert!(colour("always").contains('\x1b'));
    assert!(!colour("auto").contains('\x1b'));
    assert!(!colour("never").contains('\x1b'));
    // An explicit option wins over NO_COLOR.
    let asked = finish(command().args(["replay".into(), recording()]).args(["--color=always"]).env("NO_COLOR", "1"));
    assert!(asked.stdout.contains('\x1b'));
}
