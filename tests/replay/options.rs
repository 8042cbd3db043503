//! Options that a user of kubectl expects, on a recording.

use std::path::Path;

use execpath_tests::binary::{Ran, run};

fn of(words: &[&str]) -> Ran {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/waiting.jsonl.zst");
    let (command, rest) = words.split_first().expect("a command");
    run([&[*command, "--from", &path.to_string_lossy(), "--at", "+5s"], rest].concat())
}

fn names(words: &[&str]) -> Vec<String> {
    let ran = of(&[&["ls", "-o", "name"], words].concat());
    assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.stderr);
    ran.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn short_options_select_like_long_ones() {
    let all = names(&[]);
    assert!(!all.is_empty());
    assert!(all.iter().all(|name| name.starts_with("s-") && !name.contains(' ')), "{all:?}");
    assert_eq!(names(&["-n", "default"]), all);
    assert_eq!(names(&["-n", "elsewhere"]), [""; 0]);
    assert_eq!(names(&["-A"]), all);
    assert_eq!(names(&["-n", "elsewhere", "-A"]), all, "the last one counts");
    assert_eq!(names(&["-c", "elsewhere"]), [""; 0]);
}

#[test]
fn server_selects_the_sessions_of_one_cluster() {
    let all = names(&[]);
    for same in ["192.168.205.10", "192.168.205.10:6443"] {
        assert_eq!(names(&["--server", same]), all);
    }
    for other in ["192.168.205.11", "192.168.205.10:7443"] {
        assert_eq!(names(&["--server", other]), [""; 0]);
    }
    let refused = of(&["ls", "--server", "kubernetes"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("examples: `10.0.0.1`"), "{}", refused.stderr);
}

#[test]
fn wide_table_names_server_and_user_and_cuts_nothing() {
    let wide = of(&["ls", "-o", "wide"]).stdout;
    let head = wide.lines().next().expect("a head");
    for column in ["ID", "COMMAND", "SERVER", "USER", "CONTAINER ID"] {
        assert!(head.contains(column), "{head}");
    }
    assert!(wide.contains("192.168.205.10:6443"), "{wide}");
    assert!(!wide.contains('…'), "{wide}");
    assert!(!of(&["ls"]).stdout.contains("SERVER"), "the default table stays as it is");
}

#[test]
fn show_takes_pod_and_container_and_names_user_and_server() {
    let id = names(&[]).first().expect("a session").clone();
    let by_id = of(&["show", &id]);
    assert_eq!(by_id.code, Some(0), "{}", by_id.stderr);
    assert!(by_id.stdout.contains("\n  server     192.168.205.10:6443"), "{}", by_id.stdout);
    assert!(by_id.stdout.contains("\n  who        "), "{}", by_id.stdout);
    let by_pod = of(&["show", "web"]);
    assert_eq!(of(&["show", "web/web"]).stderr, by_pod.stderr.replace("`web`", "`web/web`"));
    assert_eq!(of(&["show", "web/none"]).code, Some(1));
}

#[test]
fn diagnose_judges_every_session_that_matches() {
    let all = names(&[]);
    let named = of(&["diagnose", "web"]);
    assert!(matches!(named.code, Some(0 | 10)), "{}", named.stderr);
    for id in &all {
        assert!(named.stdout.contains(id.as_str()), "{id}: {}", named.stdout);
    }
    let brief = of(&["diagnose"]).stdout;
    let every = of(&["diagnose", "--all"]).stdout;
    assert!(all.iter().all(|id| every.contains(id.as_str())), "{every}");
    assert!(brief.lines().count() <= every.lines().count());
}
