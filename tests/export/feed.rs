//! Recordings as input of an exporter.

use std::path::{Path, PathBuf};

use execpath::{
    correlate::Options,
    engine::{Pump, Setup},
    export::{self, Exporter},
    model::{Fact, Observation},
    record::Reader,
    sink::{Header, Sink},
};

/// Every recording of the tests: of the lab, of other clusters, and attacks on readers.
pub(crate) fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let folders = [root.clone(), root.join("field"), root.join("hosts")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.to_string_lossy().contains(".jsonl"));
    paths.sort();
    paths
}

/// A recording of the lab.
pub(crate) fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(format!("{name}.jsonl.zst"))
}

/// An exporter that serves metrics on a free port.
pub(crate) fn exporter() -> Exporter {
    let metrics = Some("127.0.0.1:0".parse().expect("an address"));
    Exporter::new(&export::Options { metrics, ..export::Options::default() }).expect("a free port")
}

/// Feeds a recording to sinks as a live trace does, with an evaluation after each round of measurements and at the end. A recording
/// that is refused is fed up to its damage.
pub(crate) fn feed(sinks: Vec<Box<dyn Sink>>, path: &Path) {
    feed_with(sinks, path, |_seen| {}, None);
}

/// Feeds a recording up to the first evaluation with this fault, and leaves the trace at that.
pub(crate) fn feed_to_fault(sinks: Vec<Box<dyn Sink>>, path: &Path, code: &str) {
    feed_with(sinks, path, |_seen| {}, Some(code));
}

/// As [`feed`], with a change to each observation; ends at the first evaluation with the fault, if one is given.
pub(crate) fn feed_with(
    sinks: Vec<Box<dyn Sink>>,
    path: &Path,
    change: impl Fn(&mut Observation),
    fault: Option<&str>,
) {
    let Ok(mut reader) = Reader::open(path) else { return };
    let header = reader.header().clone();
    let shown = Header {
        anchor: header.anchor,
        host: header.host,
        others: header.others,
        abilities: header.abilities,
        degraded: header.degraded,
    };
    let mut pump = Pump::new(Setup { exporters: sinks, ..Setup::default() }, shown, &Options::default(), None);
    pump.begin().expect("exporters do not fail");
    let mut was_measure = false;
    for mut seen in reader.by_ref() {
        change(&mut seen);
        let is_measure = seen.fact.is_measure();
        if was_measure && matches!(seen.fact, Fact::Tick) {
            pump.evaluate().expect("exporters do not fail");
            was_measure = false;
            let has = |code| pump.status().report.diagnosis.verdicts.iter().any(|verdict| verdict.code == code);
            if fault.is_some_and(has) {
                return;
            }
        }
        was_measure |= is_measure;
        pump.take(seen).expect("exporters do not fail");
        drop(pump.wants());
    }
    assert_eq!(fault, None, "the recording has no such fault");
    pump.evaluate().expect("exporters do not fail");
    pump.finish().expect("exporters do not fail");
}
