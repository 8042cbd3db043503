//! Recordings that attack the reader, and faults over the time of a recording.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use execpath_tests::binary;
use serde_json::Value;

use super::{ran, recording};

/// Time limit for reading a file of some hundred kilobytes, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Limit for a reader's resident memory, in KiB: the window of waiting observations takes 256 MiB.
const MEMORY: i64 = 700 << 10;

/// Result of a run, its peak memory in KiB, and its duration.
struct Measured {
    code: Option<i32>,
    stderr: String,
    memory: i64,
    took: Duration,
}

/// Runs `execpath`. The kernel reports the peak memory (wait4(2)).
#[expect(clippy::zombie_processes, reason = "wait4(2) reaps the child and reports its memory")]
fn measured(arguments: &[&str]) -> Measured {
    let begun = Instant::now();
    let mut child =
        binary::command().args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("execpath runs");
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    let pid = child.id().cast_signed();
    let mut status = 0;
    // SAFETY: all zeros is a value of this plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `pid` is a child that was not reaped, and both pointers are to live values.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, pid, "the child is reaped");
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Measured { code, stderr, memory: usage.ru_maxrss, took: begun.elapsed() }
}

/// Checks that every reader except `watch` refuses the rest of this file as damaged, in bounded time and memory.
#[track_caller]
fn is_refused(file: &str, line: &str, why: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let html = format!("html={}", path("page.html"));
    let readers: [&[&str]; 6] = [
        &["replay", file],
        &["ls", "--from", file],
        &["diagnose", "--from", file],
        &["diagnose", "--from", file, "--at", "+1s"],
        &["render", file, "-o", &html],
        &["merge", file, file, "-o", &path("merged.jsonl")],
    ];
    for reader in readers {
        let Measured { code, stderr, memory, took } = measured(reader);
        let word = reader[0];
        assert_eq!(code, Some(5), "{reader:?}: {stderr}");
        assert!(stderr.contains(&format!("{line} (byte ")) && stderr.contains(why), "{word}: {stderr}");
        assert!(memory < MEMORY, "{word}: {memory} KiB");
        assert!(took < TIMEOUT, "{word}: {took:?}");
    }
}

#[test]
fn tick_after_292_years_is_damage() {
    is_refused(&recording("hostile-due-time.jsonl"), "line 5", "`at` is more than 100 years after boot");
}

#[test]
fn tick_after_hundred_years_replays_quickly() {
    // The same recording with a valid tick: timers that are late by a century cost one step.
    let text = std::fs::read_to_string(recording("hostile-due-time.jsonl")).expect("a recording");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("late.jsonl");
    std::fs::write(&file, text.replace("9223372036854775807", "3153600000000000000")).expect("a file");
    let Measured { code, stderr, memory, took } = measured(&["replay", &file.to_string_lossy(), "--kind", "all"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(memory < MEMORY && took < TIMEOUT, "{memory} KiB, {took:?}");
    let Measured { code, took, .. } = measured(&["ls", "--from", &file.to_string_lossy(), "--at", "+36500d"]);
    assert_eq!(code, Some(0));
    assert!(took < TIMEOUT, "{took:?}");
}

#[test]
fn bomb_of_observations_is_damage() {
    is_refused(&recording("hostile-bomb-waiting.jsonl.zst"), "line 2", "`at` is more than 100 years after boot");
}

#[test]
fn bomb_of_newlines_is_damage() {
    is_refused(&recording("hostile-bomb-newlines.jsonl.zst"), "line 10002", "more than 10000 empty lines");
}

const HEADER: &str = r#"{"execpath":"0.1.0","format":3,"boot_to_utc_ns":0,"host":{"hostname":"h","kernel":"k","arch":"a","boot_id":"b","btf":true,"capabilities":0}}"#;

/// Writes a recording with these lines, compressed if the name ends in `zst`.
fn written(file: &Path, lines: impl Iterator<Item = String>) {
    let out = std::io::BufWriter::new(std::fs::File::create(file).expect("a file"));
    let level = if file.extension().is_some_and(|end| end == "zst") { 3 } else { 0 };
    if level == 0 {
        let mut out = out;
        std::iter::once(HEADER.to_owned()).chain(lines).for_each(|line| writeln!(out, "{line}").expect("space"));
    } else {
        let mut out = zstd::Encoder::new(out, level).expect("an encoder");
        std::iter::once(HEADER.to_owned()).chain(lines).for_each(|line| writeln!(out, "{line}").expect("space"));
        out.finish().expect("space");
    }
}

#[test]
fn too_many_waiting_observations_are_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("waiting.jsonl.zst").to_string_lossy().into_owned();
    // 400 observations of 800 kB each exceed the window, and no tick releases them. A part of each is random, for a
    // realistic compression ratio.
    let word = "x".repeat(100_000);
    let line = |number: u64| {
        let new: String = (0..512)
            .map(|digit| format!("{:08x}", (number * 512 + digit).wrapping_mul(2_654_435_761) & 0xffff_ffff))
            .collect();
        let argv = std::iter::once(new.as_str())
            .chain([word.as_str(); 8])
            .map(|word| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(",");
        format!(
            r#"{{"at":3000000000,"source":"snapshot","task":{{"tgid":1,"start_ticks":{number}}},"fact":{{"process-seen":{{"comm":"x","argv":[{argv}]}}}}}}"#
        )
    };
    written(Path::new(&file), (0..400).map(line));
    for reader in [&["replay", &file][..], &["diagnose", "--from", &file, "--at", "+0s"]] {
        let Measured { code, stderr, memory, took } = measured(reader);
        assert_eq!(code, Some(5), "{reader:?}: {stderr}");
        assert!(stderr.contains("too many observations"), "{reader:?}: {stderr}");
        assert!(memory < MEMORY && took < TIMEOUT, "{reader:?}: {memory} KiB, {took:?}");
    }
}

#[test]
fn extreme_compression_is_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ticks.jsonl.zst").to_string_lossy().into_owned();
    let tick = r#"{"at":3000000000,"source":"engine","fact":"tick"}"#;
    written(Path::new(&file), std::iter::repeat_n(tick.to_owned(), 1_000_000));
    let Measured { code, stderr, memory, took } = measured(&["replay", &file]);
    assert_eq!(code, Some(5), "{stderr}");
    assert!(stderr.contains("compression ratio above 1000"), "{stderr}");
    assert!(memory < MEMORY && took < TIMEOUT, "{memory} KiB, {took:?}");
}

#[test]
fn long_strings_and_many_loss_names_are_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.jsonl").to_string_lossy().into_owned();
    let lost = |what: &str| {
        format!(r#"{{"at":1,"source":"engine","fact":{{"lost":{{"what":"{what}","count":18446744073709551615}}}}}}"#)
    };
    let cases: [(Vec<String>, &str); 3] = [
        (vec![lost(&"x".repeat(200_000))], "a string longer than 128 KiB"),
        (vec![lost(&"x".repeat(65))], "the name of a loss is longer than 64 bytes"),
        ((0..65).map(|number| lost(&format!("loss-{number}"))).collect(), "more than 64 names of losses"),
    ];
    for (lines, why) in cases {
        written(Path::new(&file), lines.into_iter());
        let Measured { code, stderr, .. } = measured(&["replay", &file]);
        assert_eq!(code, Some(5), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
    // Counters do not overflow.
    written(Path::new(&file), std::iter::repeat_n(lost("ring"), 3));
    let ran = measured(&["replay", &file]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn equal_addresses_cost_linear_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ends.jsonl").to_string_lossy().into_owned();
    let line = |number: u64| {
        let at = 1_000_000_000 + number * 10_000;
        format!(
            r#"{{"at":{at},"source":"ebpf","task":{{"tgid":7,"start_ticks":1}},"fact":{{"connected":{{"socket":{{"id":{{"cookie":{number}}},"family":"inet","tuple":{{"local":"10.0.0.1:1000","remote":"10.0.0.1:1000"}},"netns":1}},"actor":{{}}}}}}}}"#
        )
    };
    let mut took = Vec::new();
    for ends in [8_000, 32_000] {
        written(Path::new(&file), (1..=ends).map(line));
        let ran = measured(&["replay", &file]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        took.push(ran.took);
    }
    // Four times as many ends take about four times as long, not sixteen times; the rest is tolerance.
    assert!(took[1] < took[0] * 10 + Duration::from_secs(1), "{took:?}");
}

#[test]
fn session_never_closes_before_it_opens() {
    // The exit of the command has a time right after boot.
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/exit-3.jsonl.zst");
    let text = zstd::decode_all(std::fs::File::open(real).expect("a recording")).expect("zstd");
    let text = String::from_utf8(text).expect("text");
    let early = |line: &str| {
        let mut seen: Value = serde_json::from_str(line).expect("JSON");
        if seen["fact"]["exit"].is_object() {
            seen["at"] = 6443.into();
        }
        seen.to_string()
    };
    let lines: Vec<String> = text.lines().map(early).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("early.jsonl");
    std::fs::write(&file, lines.join("\n") + "\n").expect("a file");
    let ran = binary::run(["replay", &file.to_string_lossy(), "-o", "json", "--kind", "all"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let sessions: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
    let closed: Vec<&Value> = sessions.iter().filter(|session| session["closed_at"].is_string()).collect();
    assert!(!closed.is_empty());
    for session in closed {
        assert!(session["opened_at"].as_str() <= session["closed_at"].as_str(), "{session}");
    }
}

fn verdicts(options: &[&str]) -> (Option<i32>, Vec<Value>) {
    let arguments: Vec<&str> = ["diagnose", "--from", "FILE", "-o", "json"].iter().chain(options).copied().collect();
    let ran = ran("c13-shim-stopped.jsonl.zst", &arguments);
    let verdicts: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
    (ran.code, verdicts)
}

#[test]
fn recorded_fault_is_reported_with_time_span() {
    let (code, then) = verdicts(&["--at", "+8s"]);
    let stuck = then.iter().find(|verdict| verdict["code"] == "F09").expect("F09 at +8s");
    assert_eq!((code, &stuck["until"]), (Some(10), &Value::Null), "the fault lasts at this moment");
    let (code, whole) = verdicts(&[]);
    assert_eq!(code, Some(10));
    let stuck: Vec<&Value> = whole.iter().filter(|verdict| verdict["code"] == "F09").collect();
    assert!(!stuck.is_empty(), "{whole:#?}");
    for verdict in &stuck {
        let (since, until) = (verdict["since"].as_str().expect("a time"), verdict["until"].as_str().expect("a time"));
        assert!(since < until, "{since} {until}");
    }
    let text = ran("c13-shim-stopped.jsonl.zst", &["diagnose", "--from", "FILE"]).stdout;
    let (since, until) = (stuck[0]["since"].as_str().expect("a time"), stuck[0]["until"].as_str().expect("a time"));
    assert!(text.contains("F09") && text.contains(since) && text.contains(until), "{text}");
    // The list and the page show the same fault and times.
    let list = ran("c13-shim-stopped.jsonl.zst", &["ls", "--from", "FILE"]).stdout;
    assert!(list.contains("F09") && list.contains(since) && list.contains(until), "{list}");
    let page = ran("c13-shim-stopped.jsonl.zst", &["render", "FILE", "-o", "html"]).stdout;
    assert!(page.contains("F09 "), "the page shows the fault");
}

#[test]
fn recorded_healthy_sessions_have_no_fault() {
    let ran = ran("b-crio-k136.jsonl.zst", &["diagnose", "--from", "FILE"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
}
