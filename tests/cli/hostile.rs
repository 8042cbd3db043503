//! A recording whose attacker-chosen texts try to harm a terminal, through the real binary.

use std::{fs, io::Write as _, path::PathBuf};

use execpath::{
    escape,
    model::{ContainerInfo, Fact, RawText},
    record::Reader,
    sink::FORMATS,
};
use execpath_tests::binary::run;

/// Clears the screen, reverses the reading direction, sets colours and the title, rings the bell.
const BAD: &str = "\x1b[2J\u{202e}\u{9b}31m\u{200b}x\r\n\x07\x1b]0;t\x07";

/// A real session with hostile names of programs, arguments, paths, pods and containers.
fn recording() -> (tempfile::TempDir, PathBuf) {
    let real = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/terminal.jsonl.zst");
    let mut reader = Reader::open(&real).expect("a recording");
    let mut lines = vec![serde_json::to_string(reader.header()).expect("JSON")];
    for mut seen in reader.by_ref() {
        if let Some(process) = seen.fact.process_mut() {
            process.comm = BAD.into();
            process.exe = process.exe.as_ref().map(|_| BAD.into());
            // Ids in runc's arguments are evidence: with other ids there would be no session.
            let is_runc = process.argv.iter().any(|word| word.as_bytes().starts_with(b"--pid-file"));
            for word in process.argv.iter_mut().filter(|_| !is_runc) {
                *word = RawText::from(format!("{}{BAD}", word.to_text()).as_bytes());
            }
        }
        if let Fact::ContainerSeen(container) = &mut seen.fact {
            let bad = || Some(BAD.to_owned());
            **container = ContainerInfo { name: bad(), pod: bad(), namespace: bad(), ..(**container).clone() };
        }
        lines.push(serde_json::to_string(&seen).expect("JSON"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hostile.jsonl");
    let mut file = fs::File::create(&path).expect("a file");
    writeln!(file, "{}", lines.join("\n")).expect("the folder can be written");
    (folder, path)
}

#[test]
fn replay_escapes_hostile_names() {
    let (_folder, path) = recording();
    for format in FORMATS {
        let ran = run(["replay", &path.to_string_lossy(), "--kind", "all", "-o", format.name]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", format.name);
        assert!(
            ran.stdout.contains("x1b") || ran.stdout.contains("u001b"),
            "{}: the text is shown escaped",
            format.name
        );
        let hidden: Vec<char> = ran.stdout.chars().filter(|c| *c != '\n' && escape::is_hidden(*c)).collect();
        assert!(hidden.is_empty(), "{}: {hidden:?}", format.name);
    }
}
