//! Makes recordings from logs of real clusters: `cargo xtask fixtures DIR [--check]`.
//!
//! DIR has NAME.jsonl.zst, a log, and NAME.truth.json. The part of the truth that tests compare is copied.
//! `tests/src/fixture` converts the logs.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use execpath::{
    model::{Ability, HostFacts, Observation},
    record::{Header, Reader, RecordTarget, Writer},
};
use execpath_tests::fixture::{Truth, convert, read, truth};

/// Compression level: files are packed once and read often.
const LEVEL: i32 = 19;

/// Properties of a log, from its authors.
struct Card {
    name: &'static str,
    about: &'static str,
    kubernetes: &'static str,
    kubectl: &'static str,
}

const CARDS: [Card; 3] = [
    Card {
        name: "k8s-1.20-containerd-spdy-20",
        about: "20 sessions at once from their start, SPDY all the way; from a log of socket calls",
        kubernetes: "1.20.2",
        kubectl: "1.28",
    },
    Card {
        name: "k8s-1.36-containerd-websocket-20",
        about: "20 sessions at once from their start, the kubelet translates WebSocket to SPDY; from a log of socket calls",
        kubernetes: "1.36.2",
        kubectl: "1.33",
    },
    Card {
        name: "k8s-1.36-containerd-websocket-older-50",
        about: "50 sessions that began before, idle for 16 s, then bytes on stdin; from a log of socket calls",
        kubernetes: "1.36.2",
        kubectl: "1.33",
    },
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (folder, check) = match words.as_slice() {
        [folder] => (folder, false),
        [folder, flag] if flag == "--check" => (folder, true),
        _ => return Err("DIR is needed, and then --check or nothing".into()),
    };
    let mut logs: Vec<PathBuf> = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    logs.retain(|path| path.to_string_lossy().ends_with(".jsonl.zst"));
    logs.sort();
    if logs.is_empty() {
        return Err(format!("no log in {folder}").into());
    }
    let mut differ = Vec::new();
    for log in logs {
        let name = log.file_name().unwrap_or_default().to_string_lossy().replace(".jsonl.zst", "");
        let results = Results::of(&log, &name)?;
        let place = Files::of(&name);
        if !check {
            results.write(&place)?;
        } else if results != Results::committed(&place)? {
            differ.push(name);
        }
    }
    if differ.is_empty() { Ok(()) } else { Err(format!("not what the command makes: {}", differ.join(", ")).into()) }
}

/// Paths of the results.
struct Files {
    recording: PathBuf,
    card: PathBuf,
    truth: PathBuf,
}

impl Files {
    fn of(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
        let file = |end: &str| folder.join(format!("fixture-{name}.{end}"));
        Self { recording: file("jsonl.zst"), card: file("toml"), truth: file("truth.json") }
    }
}

/// The results for one log.
#[derive(PartialEq)]
struct Results {
    header: Header,
    seen: Vec<Observation>,
    card: String,
    truth: Vec<Truth>,
}

impl Results {
    fn of(log: &Path, name: &str) -> Result<Self> {
        let card = CARDS.iter().find(|card| card.name == name).ok_or_else(|| format!("nothing is known of {name}"))?;
        let host = HostFacts {
            hostname: "fixture".to_owned(),
            kernel: "6.18".to_owned(),
            arch: "x86_64".to_owned(),
            boot_id: name.to_owned(),
            ..HostFacts::default()
        };
        let abilities = vec![Ability::Tcp, Ability::Accept, Ability::Relay, Ability::Fifo];
        let command = "cargo xtask fixtures".to_owned();
        let header = Header { abilities, command, ..Header::new(Default::default(), host) };
        let Card { about, kubernetes, kubectl, .. } = card;
        let card = format!(
            "# Results by `cargo xtask fixtures`.\nabout = \"{about}\"\nkernel = \"6.18\"\nruntime = \"containerd 1.6.20\"\n\
             kubernetes = \"{kubernetes}\"\nkubectl = \"{kubectl}\"\ncommand = \"kubectl exec -i\"\n"
        );
        let beside = log.with_file_name(format!("{name}.truth.json"));
        Ok(Self { header, seen: convert(&read(log)?), card, truth: truth(&beside)? })
    }

    fn committed(place: &Files) -> Result<Self> {
        let mut reader = Reader::open(&place.recording)?;
        let header = Header::new(reader.header().anchor, reader.header().host.clone());
        // The version of execpath does not matter.
        let header = Header { execpath: header.execpath, ..reader.header().clone() };
        let seen = reader.by_ref().collect();
        Ok(Self { header, seen, card: fs::read_to_string(&place.card)?, truth: truth(&place.truth)? })
    }

    fn write(&self, place: &Files) -> Result<()> {
        let work = tempfile::tempdir()?;
        let plain = work.path().join("plain.jsonl");
        let mut writer = Writer::begin(RecordTarget::create(&plain)?, &self.header)?;
        for seen in &self.seen {
            writer.write(seen)?;
        }
        writer.finish()?;
        fs::write(&place.recording, zstd::encode_all(fs::File::open(plain)?, LEVEL)?)?;
        fs::write(&place.card, &self.card)?;
        let lines: Vec<String> = self.truth.iter().map(serde_json::to_string).collect::<serde_json::Result<_>>()?;
        Ok(fs::write(&place.truth, format!("{{\"truth\":[\n{}\n]}}\n", lines.join(",\n")))?)
    }
}
