//! Pictures that `render` draws of recordings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use execpath::{
    escape,
    model::{Change, Fact, Finding, HostFacts, Observation, Report, Source, TcpInfo, TcpMeasure, TcpState},
    render::{Collector, PICTURES, Picture},
    sink::Header,
};
use execpath_tests::{
    binary::{Ran, run},
    samples,
};
use serde_json::Value;

use crate::{
    lab::{is_fixture, recordings},
    sinks::hostile,
};

fn rendered(file: &Path, format: &str) -> String {
    let ran = run(["render", &file.to_string_lossy(), "--kind", "all", "-o", format]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", file.display());
    ran.stdout
}

#[test]
fn svg_and_mermaid_match_snapshots() {
    for (name, path) in recordings().into_iter().filter(|(name, _)| !is_fixture(name)) {
        for format in ["svg", "mermaid"] {
            insta::assert_snapshot!(format!("{name}.{format}"), rendered(&path, format));
        }
    }
}

#[test]
fn svg_is_well_formed_and_self_contained() {
    for (name, path) in recordings() {
        let text = rendered(&path, "svg");
        let drawing = roxmltree::Document::parse(&text).expect("well-formed");
        assert_eq!(drawing.root_element().tag_name().namespace(), Some("http://www.w3.org/2000/svg"));
        for node in drawing.descendants() {
            assert!(!["script", "image", "use", "foreignObject"].contains(&node.tag_name().name()), "{name}");
            assert!(node.attributes().all(|one| !one.name().starts_with("on") && one.name() != "href"), "{name}");
        }
        let texts: Vec<&str> = drawing.descendants().filter_map(|node| node.text()).collect();
        assert!(texts.iter().any(|text| text.contains("pid ")), "{name}");
    }
}

#[test]
fn pictures_are_deterministic() {
    for (_, path) in recordings() {
        for picture in PICTURES {
            assert!(rendered(&path, picture.name) == rendered(&path, picture.name), "{}", picture.name);
        }
    }
}

#[test]
fn pictures_contain_no_hidden_characters() {
    for (name, path) in recordings() {
        for picture in PICTURES {
            let text = rendered(&path, picture.name);
            assert!(!text.chars().any(|one| one != '\n' && escape::is_hidden(one)), "{name}.{}", picture.name);
        }
    }
}

/// Checks a trace in the Trace Event Format against the rules of ui.perfetto.dev.
fn is_trace(name: &str, text: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_str(text).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events").clone();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut slices: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    for event in &events {
        let kind = event["ph"].as_str().expect("a phase");
        let (process, track) = (event["pid"].as_u64().expect("a process"), event["tid"].as_u64());
        assert!(event["name"].is_string(), "{name}: {event}");
        if kind == "M" {
            continue;
        }
        let at = event["ts"].as_f64().expect("a time");
        assert!(at >= 0.0, "{name}: {event}");
        match kind {
            "X" => {
                let lasts = event["dur"].as_f64().expect("a length");
                assert!(lasts >= 0.0, "{name}: {event}");
                slices.entry((process, track.expect("a track"))).or_default().push((at, at + lasts));
            }
            "s" | "f" => {
                arrows.entry(event["id"].to_string()).or_default().insert(kind.to_owned());
            }
            "C" => assert!(event["args"].as_object().expect("values").values().all(Value::is_number), "{name}"),
            "i" => assert_eq!(event["s"], "p"),
            _ => assert!(kind.is_empty(), "{name}: an event of an unknown kind: {event}"),
        }
    }
    assert!(arrows.values().all(|ends| ends.len() == 2), "{name}: an arrow has two ends");
    for event in events.iter().filter(|event| event["ph"] == "s" || event["ph"] == "f") {
        let key = (event["pid"].as_u64().expect("a process"), event["tid"].as_u64().expect("a track"));
        let at = event["ts"].as_f64().expect("a time");
        let holds = slices[&key].iter().any(|(from, until)| (*from..=*until).contains(&at));
        assert!(holds, "{name}: an arrow without a slice: {event}");
    }
    events
}

#[test]
fn perfetto_traces_follow_the_format() {
    for (name, path) in recordings() {
        let events = is_trace(&name, &rendered(&path, "perfetto"));
        let named = |what: &str| events.iter().filter(|event| event["name"] == what).count();
        assert!(named("process_name") > 0 && named("thread_name") > named("process_name"), "{name}");
    }
}

/// Pictures of findings and samples, by format.
fn drawn(header: &Header, findings: &[Finding], measures: &[Observation]) -> BTreeMap<&'static str, String> {
    let (mut sink, kept) = Collector::shared();
    sink.host(header).expect("memory can be written");
    for seen in findings {
        sink.change(seen).expect("memory can be written");
    }
    for seen in measures {
        sink.measured(seen).expect("memory can be written");
    }
    let at = findings.last().expect("findings").at;
    sink.finish(&Report { at, ..Report::default() }).expect("memory can be written");
    let timeline = kept.lock().expect("not poisoned").timeline();
    let written = |picture: &Picture| {
        let mut text = Vec::new();
        (picture.write)(&timeline, &mut text).expect("memory can be written");
        (picture.name, String::from_utf8(text).expect("text"))
    };
    PICTURES.iter().map(written).collect()
}

#[test]
fn pictures_show_hostile_names_as_text() {
    let (header, session) = hostile();
    let mut pictures = drawn(&header, &[samples::finding(1, Change::Opened, session)], &[]);
    for (name, text) in &pictures {
        let hidden: Vec<char> = text.chars().filter(|one| *one != '\n' && escape::is_hidden(*one)).collect();
        assert!(hidden.is_empty(), "{name}: {hidden:?}");
    }
    roxmltree::Document::parse(&pictures["svg"]).expect("well-formed");
    is_trace("hostile", &pictures.remove("perfetto").expect("a trace"));
}

#[test]
fn pictures_of_several_hosts_name_them() {
    let mut header = samples::header();
    header.others = ["master", "worker"].map(|name| HostFacts { hostname: name.into(), ..header.host.clone() }).into();
    let pictures = drawn(&header, &samples::life(), &[]);
    for format in ["html", "perfetto"] {
        assert!(pictures[format].contains("\"host\":\"worker (2 hosts), master\""), "{format}");
    }
}

#[test]
fn only_sampled_legs_have_counters() {
    let leg = samples::whole().links.iter().find_map(|link| link.tcp).expect("a leg");
    let measure = TcpMeasure {
        state: TcpState::Established,
        recv_q: 4_096,
        send_q: 0,
        timer: None,
        info: Some(TcpInfo { bytes_acked: 234, bytes_received: 539, ..TcpInfo::default() }),
    };
    let fact = Fact::TcpMeasured { socket: leg.near.expect("an end"), tuple: None, measure };
    let seen = Observation::new(samples::after(1_000), Source::Snapshot, fact);
    let counters = |measures: &[Observation]| -> Vec<Value> {
        let text = drawn(&samples::header(), &samples::life(), measures).remove("perfetto").expect("a trace");
        is_trace("life", &text)
            .into_iter()
            .filter(|event| event["ph"] == "C")
            .map(|event| event["args"].clone())
            .collect()
    };
    assert_eq!(counters(&[]), [] as [Value; 0]);
    assert_eq!(
        counters(&[seen]),
        [serde_json::json!({ "recv_q": 4_096, "send_q": 0 }), serde_json::json!({ "sent": 234, "received": 539 })]
    );
}

fn terminal() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/terminal.jsonl.zst")
}

fn render(arguments: &[&str]) -> Ran {
    let file = terminal();
    run(["render", &file.to_string_lossy()].iter().chain(arguments))
}

#[test]
fn render_selects_session_by_pod_pid_or_id() {
    for id in ["web", "default/web", "19574", "s-aaeda3ce74"] {
        let ran = render(&[id, "-o", "svg"]);
        assert_eq!(ran.code, Some(0), "{id}: {}", ran.stderr);
        assert_eq!(ran.stdout.matches("class=\"session\"").count(), 1, "{id}");
    }
}

#[test]
fn render_reports_errors_with_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty");
    fs::write(&empty, "").expect("the folder can be written");
    let unwritable = format!("html={}", folder.path().join("no/such/folder.html").display());
    let unmade = folder.path().join("unmade.svg");
    let unmade_svg = format!("svg={}", unmade.display());
    for (code, arguments, says) in [
        (1, vec!["nobody", "-o", unmade_svg.as_str()], "no session in the recording matches"),
        (1, vec!["--pod", "nobody", "-o", "svg"], "no session in the recording matches"),
        (2, vec![], "--output"),
        (2, vec!["-o", "gif"], "unknown output format `gif`"),
        (5, vec!["-o", unwritable.as_str()], "cannot create"),
    ] {
        let ran = render(&arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines[0].contains(says), "{lines:?}");
        assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{lines:?}");
    }
    assert!(!unmade.exists(), "no file is left if no session matches");
    let ran = run(["render", &empty.to_string_lossy(), "-o", "svg"]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.stderr.contains("the file is empty"), "{}", ran.stderr);
}

#[test]
fn pictures_report_recording_without_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("begun.jsonl");
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/hand-made.jsonl");
    let whole = fs::read_to_string(whole).expect("a recording");
    fs::write(&file, whole.split_inclusive('\n').take(1).collect::<String>()).expect("the folder can be written");
    for picture in PICTURES {
        let ran = run(["render", &file.to_string_lossy(), "--kind", "all", "-o", picture.name]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains("no session") || picture.name == "perfetto", "{}", ran.stdout);
        assert!(ran.stderr.contains("notice: "), "{}", ran.stderr);
    }
}
