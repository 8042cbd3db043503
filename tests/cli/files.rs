//! Output files in a folder writable for other users: files prepared by them are refused.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use execpath_tests::binary::{self, run};

/// An unprivileged user.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder with the mode of /tmp, and a recording beside it.
fn shared() -> (tempfile::TempDir, PathBuf, String) {
    let outer = tempfile::tempdir().expect("a folder");
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    let folder = outer.path().join("tmp");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).expect("its mode");
    let real = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/terminal.jsonl.zst");
    let recording = outer.path().join("terminal.jsonl.zst");
    fs::copy(real, &recording).expect("a copy");
    fs::set_permissions(&recording, fs::Permissions::from_mode(0o644)).expect("its mode");
    (outer, folder, recording.to_string_lossy().into_owned())
}

/// Runs a script as an unprivileged user.
fn by_nobody(folder: &Path, script: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-ec", script]).current_dir(folder);
    if is_root() {
        shell.uid(NOBODY).gid(NOBODY);
    }
    assert!(shell.status().expect("a shell").success(), "{script}");
}

/// Every option that names an output file, with the beginning of its error message.
fn ways(recording: &str, file: &str) -> Vec<(Vec<String>, String)> {
    let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    vec![
        (words(&["replay", recording, "-o", &format!("jsonl={file}")]), format!("cannot write to {file}: ")),
        (words(&["ls", "--from", recording, "-o", &format!("json={file}")]), format!("cannot write to {file}: ")),
        (words(&["render", recording, "-o", &format!("html={file}")]), format!("cannot write to {file}: ")),
        (words(&["merge", recording, recording, "-o", file]), format!("cannot record to {file}: ")),
        (words(&["trace", "--record", file]), format!("cannot record to {file}: ")),
        (words(&["record", file]), format!("cannot record to {file}: ")),
    ]
}

#[test]
fn output_refuses_files_prepared_by_other_users() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let (_outer, folder, recording) = shared();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    fs::write(folder.join("victim"), "precious").expect("a file");
    by_nobody(
        &folder,
        "ln -s victim link; ln -s nowhere dangling; mkfifo fifo; : > own; chmod 666 own; : > one; chmod 666 one; ln one two",
    );
    let (file, give) = (
        "use a file name; for a pipe or a device, write to stdout (`-`) and redirect it",
        "use another name, or remove the file; prefer a directory that only you can write to",
    );
    let prepared = [
        ("link", "it is a symbolic link, not a regular file", file),
        ("dangling", "it is a symbolic link, not a regular file", file),
        ("fifo", "it is a FIFO, not a regular file", file),
        ("own", "the file belongs to another user", give),
        ("two", "the file belongs to another user", give),
    ];
    for (name, why, hint) in prepared {
        for (arguments, what) in ways(&recording, &path(name)) {
            let ran = run(&arguments);
            assert_eq!(ran.stderr, format!("error: {what}{why}\nhint: {hint}\n"), "{arguments:?}");
            assert_eq!(ran.code, Some(5), "{arguments:?}");
        }
    }
    for (arguments, what) in ways(&recording, "/dev/null") {
        let ran = run(&arguments);
        assert_eq!(ran.stderr, format!("error: {what}it is a device, not a regular file\nhint: {file}\n"));
    }
    assert_eq!(fs::read_to_string(folder.join("victim")).expect("the victim exists"), "precious");
    for name in ["own", "one"] {
        assert_eq!(fs::metadata(folder.join(name)).expect("the file exists").len(), 0, "{name}");
    }
    assert!(!folder.join("nowhere").exists());
}

#[test]
fn output_refuses_hard_links() {
    let (_outer, folder, recording) = shared();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    fs::write(folder.join("mine"), "").expect("a file");
    fs::hard_link(folder.join("mine"), folder.join("prepared")).expect("a link");
    for (arguments, what) in ways(&recording, &path("prepared")) {
        let ran = run(&arguments);
        let why = format!("error: {what}the file has a second name (hard link)\n");
        assert!(ran.stderr.starts_with(&why), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.code, Some(5));
    }
}

#[test]
fn output_writes_private_files() {
    let (_outer, folder, recording) = shared();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    for (number, (arguments, _)) in ways(&recording, &path("out")).into_iter().take(4).enumerate() {
        let name = path("out");
        let facts = || fs::metadata(&name).expect("the output exists");
        // merge never overwrites a file with content, but accepts an empty one.
        if number == 3 {
            fs::write(&name, "").expect("a file");
        }
        for _ in 0..(if number == 3 { 1 } else { 2 }) {
            let ran = run(&arguments);
            assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
            assert!(facts().len() > 1, "{arguments:?}");
            assert_eq!(facts().mode() & 0o7777, 0o600, "{arguments:?}");
            fs::set_permissions(&name, fs::Permissions::from_mode(0o644)).expect("its mode");
        }
        fs::remove_file(&name).expect("the output exists");
    }
}

#[test]
fn unprivileged_user_cannot_overwrite_files_of_root() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let (outer, folder, recording) = shared();
    let program = outer.path().join("execpath");
    fs::copy(binary::path(), &program).expect("a copy");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).uid(NOBODY).gid(NOBODY).env("COLUMNS", "100");
        binary::finish(&mut command)
    };
    let out = folder.join("out").to_string_lossy().into_owned();
    let target = format!("json={out}");
    let ran = as_nobody(&["replay", &recording, "-o", &target]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let facts = fs::metadata(&out).expect("the output exists");
    assert_eq!((facts.uid(), facts.mode() & 0o7777), (NOBODY, 0o600));
    // A file of root, writable for all.
    fs::remove_file(&out).expect("the output exists");
    fs::write(&out, "").expect("a file");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).expect("its mode");
    let ran = as_nobody(&["replay", &recording, "-o", &target]);
    assert!(ran.stderr.contains("the file belongs to another user"), "{}", ran.stderr);
    assert_eq!(ran.code, Some(5));
}
