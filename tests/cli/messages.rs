//! Every way to fail: one line with the error, one with a hint, and the exit code.

use std::{fs, path::Path};

use execpath_tests::binary::run;

#[track_caller]
fn fails(arguments: &[&str], code: i32, error: &str, hint: &str) {
    let ran = run(arguments);
    assert_eq!(ran.stderr, format!("error: {error}\nhint: {hint}\n"), "{arguments:?}");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}");
}

fn help(command: &str) -> String {
    format!("`execpath{command} --help` lists the options")
}

const HEADER: &str = r#"{"execpath":"0.1.0","format":1,"boot_to_utc_ns":0,"host":{"hostname":"h","kernel":"k","arch":"a","boot_id":"b","btf":true,"capabilities":0}}"#;
const TICK: &str = r#"{"at":1,"source":"engine","fact":"tick"}"#;
const STOPPED: &str = r#"{"at":2,"source":"engine","fact":"stopped"}"#;

fn recording(folder: &Path, lines: &[&str]) -> String {
    let path = folder.join("recording.jsonl");
    fs::write(&path, lines.join("\n") + "\n").expect("the folder can be written");
    path.to_string_lossy().into_owned()
}

#[test]
fn invalid_arguments_exit_2() {
    fails(&[], 2, "no command given", "`execpath --help` lists the commands");
    fails(&["trce"], 2, "unrecognized subcommand 'trce'", "a similar subcommand exists: 'trace'");
    fails(&["--nope"], 2, "unexpected argument '--nope' found", &help(""));
    fails(&["trace", "--xyz"], 2, "unexpected argument '--xyz' found", &help(" trace"));
    fails(&["trace", "--onc"], 2, "unexpected argument '--onc' found", "a similar argument exists: '--once'");
    fails(&["replay"], 2, "the following required arguments were not provided: <FILE|nats://…>...", &help(" replay"));
    fails(
        &["trace", "--kind", "steer"],
        2,
        "invalid value 'steer' for '--kind <KIND>' [possible values: people, exec, attach, debug, cp, port-forward, logs, local, probe, start, request, all]",
        "a similar value exists: 'start'",
    );
    fails(
        &["completions", "tcsh"],
        2,
        "invalid value 'tcsh' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]",
        "a similar value exists: 'zsh'",
    );
    fails(
        &["trace", "--kubelet-port", "0"],
        2,
        "invalid value '0' for '--kubelet-port <PORT>': 0 is not in 1..=65535",
        &help(" trace"),
    );
}

#[test]
fn invalid_durations_and_patterns_exit_2() {
    for (text, why) in [
        ("x", "expected number at 0"),
        ("0s", "must be longer than zero"),
        ("0", "must be longer than zero"),
        ("1.2.3", "invalid character at 3"),
    ] {
        let error = format!("invalid value '{text}' for '--duration <TIME>': {why}");
        fails(&["trace", "--duration", text], 2, &error, &help(" trace"));
    }
    // A number without a unit is seconds.
    for (text, why) in ["1s", "1m", "1", "1.9", "31"].map(|text| (text, "must be from 2s to 30s")) {
        let error = format!("invalid value '{text}' for '--measure <TIME>': {why}");
        fails(&["trace", "--measure", text], 2, &error, &help(" trace"));
    }
    let error = "invalid value 'keep=7' for '--rotate <WHEN>': a size or an age is required: `100MB`, `24h`";
    fails(&["record", "a", "--rotate", "keep=7"], 2, error, &help(" record"));
    fails(
        &["record", "-", "--rotate", "1h"],
        2,
        "`--rotate` cannot write to stdout",
        "use a file name, or omit `--rotate`",
    );
    fails(&["trace", "--redact", "("], 2, "invalid value '(' for '--redact <REGEX>': unclosed group", &help(" trace"));
}

#[test]
fn stream_options_without_a_stream_are_refused() {
    let for_a_stream = |arguments: &[&str], option: &str| {
        fails(
            arguments,
            2,
            &format!("`{option}` is for the stream of a cluster"),
            "omit it, or give the address of a stream: `nats://HOST[:PORT]/CLUSTER`",
        );
    };
    for (option, value) in
        [("--since", "5m"), ("--nats-creds", "a"), ("--nats-nkey", "a"), ("--nats-token", "a"), ("--nats-ca", "a")]
    {
        for command in [
            &["trace"][..],
            &["ls"],
            &["ls", "--from", "b.jsonl"],
            &["show", "web"],
            &["diagnose"],
            &["diagnose", "--from", "b.jsonl"],
            &["replay", "b.jsonl"],
            &["render", "b.jsonl", "-o", "html"],
            &["record", "b.jsonl"],
        ] {
            for_a_stream(&[command, &[option, value]].concat(), option);
        }
        if option != "--since" {
            for_a_stream(&["agent", "--record", "b.jsonl", "--check", option, value], option);
        }
    }
    // `record` to a stream reads nothing.
    for_a_stream(&["record", "nats://127.0.0.1:9/c", "--since", "5m"], "--since");
    fails(
        &["ls", "--from", "nats://s3cret@127.0.0.1:9/c", "--nats-token", "a"],
        2,
        "a token in the address and `--nats-token` exclude each other",
        "omit one of them",
    );
    fails(
        &["trace", "--from", "a.jsonl"],
        2,
        "`--from` of `trace` takes the address of a cluster's stream",
        "example: `--from nats://nats.example/prod`; `replay FILE` and `watch FILE` show a recording",
    );
    let both = "the argument '--from <nats://…>' cannot be used with '--record <FILE>'";
    fails(&["trace", "--from", "nats://127.0.0.1:9/c", "--record", "a"], 2, both, &help(" trace"));
    let both = "the argument '--from <nats://…>' cannot be used with '--no-args'";
    fails(&["record", "a", "--from", "nats://127.0.0.1:9/c", "--no-args"], 2, both, &help(" record"));
}

#[test]
fn invalid_outputs_are_refused() {
    fails(&["trace", "-o", "xml"], 2, "unknown output format `xml`", "use one of: tree, explain, jsonl, json");
    fails(
        &["trace", "-o", "jsonl="],
        2,
        "`-o jsonl=` has no file name",
        "use `-o jsonl=FILE`, or `-o jsonl` for stdout",
    );
    fails(
        &["trace", "-o", "tree", "-o", "jsonl=-"],
        2,
        "two outputs write to stdout",
        "use a file for each: `-o jsonl=FILE`",
    );
    fails(
        &["trace", "-o", "tree=/nowhere/a", "-o", "jsonl=/nowhere/a"],
        2,
        "two outputs write to /nowhere/a",
        "use a file for each: `-o jsonl=FILE`",
    );
    fails(
        &["trace", "-o", "tree=/nowhere/a"],
        5,
        "cannot create /nowhere/a: No such file or directory (os error 2)",
        "the directory must exist and be writable",
    );
}

#[test]
fn recording_never_overwrites_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = recording(folder.path(), &["mine"]);
    fails(
        &["trace", "--record", &taken],
        5,
        &format!("cannot record to {taken}: the file exists and is not empty"),
        "recordings are never overwritten: use another name, or remove the file",
    );
    assert_eq!(fs::read_to_string(&taken).expect("still there"), "mine\n");
    fails(
        &["trace", "--record", "/nowhere/a"],
        5,
        "cannot record to /nowhere/a: No such file or directory (os error 2)",
        "the directory must exist and be writable",
    );
    fails(
        &["trace", "--record", "-"],
        2,
        "`--record -` and `-o` both write to stdout",
        "write one of them to a file: `-o tree=FILE` or `--record FILE`",
    );
}

#[test]
fn invalid_network_namespaces_exit_2() {
    fails(&["trace", "--netns", ""], 2, "`--netns` is empty", "use a name of `ip netns list`, a path, or a pid");
    fails(&["trace", "--netns", ".."], 2, "`--netns` is not a valid name", "use a path such as /run/netns/NAME");
    fails(
        &["trace", "--netns", "0"],
        2,
        "`--netns 0` is not a valid pid",
        "for a namespace with a numeric name, use its path",
    );
}

#[test]
fn invalid_audit_logs_exit_5() {
    let hint = "use the file of kube-apiserver's option --audit-log-path";
    for (path, why) in [
        ("/nowhere/a", "No such file or directory (os error 2)"),
        ("/dev/null", "it is not a regular file"),
        ("/", "it is not a regular file"),
    ] {
        fails(&["trace", "--audit-log", path], 5, &format!("cannot read the audit log {path}: {why}"), hint);
    }
}

#[test]
fn invalid_recordings_exit_5() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrote = "use a file written by `record` or `trace --record`; the output of `-o jsonl` is not a recording";
    fails(
        &["replay", "/nowhere/a"],
        5,
        "cannot open the recording: /nowhere/a: No such file or directory (os error 2)",
        "use a file written by `record FILE` or `trace --record FILE`, or `-` for stdin",
    );
    let file = recording(folder.path(), &["hello"]);
    fails(
        &["replay", &file],
        5,
        &format!("cannot open the recording: {file}: not a recording of execpath: line 1: expected value (column 1)"),
        wrote,
    );
    let file = recording(folder.path(), &[r#"{"v":1,"type":"host"}"#]);
    fails(
        &["replay", &file],
        5,
        &format!(
            "cannot open the recording: {file}: not a recording of execpath: line 1: missing field `execpath` (column 21)"
        ),
        wrote,
    );
    let file = recording(folder.path(), &[r#"{"execpath":"3.0.0","format":9}"#]);
    fails(
        &["replay", &file],
        5,
        &format!(
            "cannot open the recording: {file}: format 9, written by execpath 3.0.0; this execpath reads up to format 4"
        ),
        "use that version of execpath or a later one",
    );
    fs::write(&file, "").expect("the folder can be written");
    fails(
        &["replay", &file],
        5,
        &format!("cannot open the recording: {file}: the file is empty"),
        "the recording was stopped before it wrote anything",
    );
}

#[test]
fn invalid_merges_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = recording(folder.path(), &[HEADER, TICK, STOPPED]);
    let out = folder.path().join("merged.jsonl").to_string_lossy().into_owned();
    fails(
        &["merge", &one, "-o", &out],
        2,
        "2 values required by '<FILE> <FILE>...'; only 1 was provided",
        &help(" merge"),
    );
    let ran = run(["merge", &one, &one]);
    assert_eq!((ran.code, ran.stderr.contains("--output <FILE>")), (Some(2), true), "{}", ran.stderr);
    fails(&["merge", "-", &one, "-o", &out], 2, "stdin cannot be merged", "use files: each recording is read twice");
    fails(
        &["merge", &one, &one, "-o", &one],
        5,
        &format!("cannot record to {one}: the file exists and is not empty"),
        "recordings are never overwritten: use another name, or remove the file",
    );
    assert!(!Path::new(&out).exists());
    let ran = run(["merge", &one, &one, "-o", &out]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
    assert_eq!(
        ran.stderr,
        format!("h: reference clock\nh: reference clock\nmerged: 2 observations of 2 recordings: {out}\n")
    );
}

#[test]
fn missing_recording_creates_no_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out");
    assert_eq!(run(["replay", "/nowhere/a", "-o", &format!("tree={}", output.display())]).code, Some(5));
    assert!(!output.exists());
}

#[test]
fn replay_prints_sessions_before_reporting_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording(folder.path(), &[HEADER, TICK, "{\"at\":3,\"fact\":\"mystery\"}", STOPPED]);
    let ran = run(["replay", &file]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.stdout.starts_with("on h, Linux k, a\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with(" lost\n"), "{}", ran.stdout);
    let byte = HEADER.len() + TICK.len() + 2;
    let start = format!("error: the recording is damaged: {file}: line 3 (byte {byte}): unknown variant `mystery`");
    assert!(ran.stderr.starts_with(&start), "{}", ran.stderr);
    let hint = "\nhint: the part before the damage was shown; use another copy of the file if there is one\n";
    assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 2);
}

#[test]
fn replay_reports_a_cut_recording_as_notice() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording(folder.path(), &[HEADER, TICK]);
    let ran = run(["replay", &file]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        ran.stderr,
        format!("notice: the recording is truncated after line 2: {file}; the part before was shown\n")
    );
}

#[test]
fn unmatched_filter_exits_1_and_empty_recording_exits_0() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording(folder.path(), &[HEADER, TICK, STOPPED]);
    assert_eq!(run(["replay", &file]).code, Some(0));
    for filter in [["--pod", "web"], ["--namespace", "default"], ["--container", "web"], ["--kind", "probe"]] {
        let ran = run(["replay", &file].iter().chain(&filter));
        assert_eq!(ran.code, Some(1));
        assert_eq!(
            ran.stderr,
            "error: no session in the recording matches the filter\nhint: the recording has 0 sessions; filters match whole names\n"
        );
    }
}

#[test]
fn errors_escape_arguments() {
    fails(&["trace", "--a\u{202e}b"], 2, "unexpected argument '--a\\u{202e}b' found", &help(" trace"));
    let ran = run(["replay", "/nowhere/\x1b[2J"]);
    assert!(ran.stderr.contains("/nowhere/\\x1b[2J"), "{}", ran.stderr);
}

#[test]
fn watch_refuses_to_run_without_terminal() {
    let error = "`watch` needs a terminal";
    let hint = "use `execpath ls` or `trace` for pipes and files; `ls --watch 2s` repeats";
    fails(&["watch"], 2, error, hint);
    fails(&["watch", "recording.jsonl"], 2, error, hint);
}

#[test]
fn explain_requires_a_drawing() {
    let error = "`--explain` needs the output format `tree`";
    let hint = "omit `-o`, or add `-o explain=FILE`";
    fails(&["trace", "--explain", "-o", "jsonl"], 2, error, hint);
}
