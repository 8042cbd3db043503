//! Sessions of CRI-O: the runtime starts `runc exec` itself, and a monitor for each probe.

use serde_json::Value;

use super::sessions;

/// Sessions whose runtime process has this name.
fn of_runtime(name: &str, comm: &str, options: &[&str]) -> Vec<Value> {
    // Provisional sessions of streams have been merged into sessions of their execs.
    let all = sessions(name, options).into_values().filter(|session| session["merged_into"].is_null());
    all.filter(|session| hop(session, "runtime").is_some_and(|hop| hop["comm"] == comm)).collect()
}

fn hop<'a>(session: &'a Value, role: &str) -> Option<&'a Value> {
    session["hops"].as_array()?.iter().find(|hop| hop["role"] == role)
}

fn roles(session: &Value) -> Vec<&str> {
    session["hops"].as_array().into_iter().flatten().filter_map(|hop| hop["role"].as_str()).collect()
}

fn gaps(session: &Value) -> Vec<&str> {
    session["gaps"].as_array().into_iter().flatten().filter_map(|gap| gap["code"].as_str()).collect()
}

fn command(session: &Value) -> String {
    let words = session["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(" ")
}

/// True if every link is exact.
fn is_exact(session: &Value) -> bool {
    session["links"]
        .as_array()
        .is_some_and(|links| !links.is_empty() && links.iter().all(|link| link["confidence"] == "exact"))
}

#[test]
fn crio_exec_reports_terminal_and_stdin() {
    let sessions = of_runtime("crio-it.jsonl.zst", "crio", &[]);
    let both = |session: &Value| (session["tty"].clone(), session["stdin"].clone());
    let of_command = |words: &str| sessions.iter().find(|session| command(session) == words).expect("a session");
    let shell = of_command("sh -c tty; sleep 1; exit 3");
    assert_eq!(both(shell), (Value::Bool(true), Value::Bool(true)));
    assert_eq!((&shell["exit"]["code"], &shell["complete"], is_exact(shell)), (&3.into(), &Value::Bool(true), true));
    assert_eq!(both(of_command("yes")), (Value::Bool(false), Value::Bool(false)), "kubectl exec without options");
}

#[test]
fn crio_probes_equal_containerd_probes() {
    let options = ["--kind", "probe"];
    let ours = of_runtime("crio-probes-untold.jsonl.zst", "crio", &options);
    let theirs = of_runtime("crio-probes-untold.jsonl.zst", "containerd", &options);
    assert!(ours.len() >= 3 && theirs.len() >= 3, "{} and {}", ours.len(), theirs.len());
    let whole = |session: &&Value| session["state"] == "closed" && session["preexisting"] == false;
    let shape = |session: &Value| {
        let keys = ["kind", "complete", "tty", "stdin", "preexisting"].map(|key| session[key].clone());
        let link = |link: &Value| (link["confidence"].clone(), link["kind"].clone());
        let last = session["links"].as_array().and_then(|links| links.last()).map(link);
        (keys, roles(session).join(" "), gaps(session).join(" "), session["exit"]["reason"].clone(), last)
    };
    let expected = shape(theirs.iter().find(whole).expect("a probe of containerd"));
    assert_eq!(expected.1, "runtime shim runc process");
    for probe in ours.iter().filter(whole) {
        assert_eq!(shape(probe), expected, "{}", command(probe));
        assert_eq!((is_exact(probe), command(probe).as_str()), (true, "sh -c sleep 0.2; : probe"));
        assert_eq!(probe["target"]["pod"], "ho-probex");
    }
}

#[test]
fn sessions_without_process_report_gap() {
    let sessions = of_runtime("g-crio-k136.jsonl.zst", "crio", &[]);
    let execs: Vec<&Value> = sessions.iter().filter(|session| session["kind"] == "exec").collect();
    assert_eq!(execs.len(), 10);
    for exec in execs {
        assert_eq!((&exec["state"], &exec["exit"]["code"]), (&"closed".into(), &Value::Null));
        assert_eq!(
            (roles(exec).join(" "), gaps(exec)),
            ("kubectl apiserver kubelet runtime".into(), vec!["process-unknown"])
        );
        let text = exec["gaps"][0]["text"].as_str().expect("a text");
        assert!(!text.contains("waiting"), "{text}");
    }
}

#[test]
fn cgroup_names_pod_without_config_file() {
    let sessions = of_runtime("a-crio-runc.jsonl.zst", "crio", &[]);
    let execs: Vec<&Value> = sessions.iter().filter(|session| session["kind"] == "exec").collect();
    assert!(execs.len() >= 3, "{}", execs.len());
    for exec in execs {
        let target = &exec["target"];
        assert!(target["pod_uid"].is_string() && target["container_id"].is_string(), "{target}");
        assert_eq!((&target["runtime"], &target["pod"]), (&"cri-o".into(), &Value::Null));
        assert_eq!(gaps(exec), ["names-unknown"]);
    }
}

#[test]
fn hundred_simultaneous_sessions_keep_own_bytes() {
    let sessions = of_runtime("b-crio-k136.jsonl.zst", "crio", &[]);
    let execs: Vec<&Value> = sessions.iter().filter(|session| session["kind"] == "exec").collect();
    assert_eq!(execs.len(), 100);
    let mut seen = Vec::new();
    for exec in execs {
        let token = |command: &str| {
            let (_, rest) = command.split_once("token-crio-k136-")?;
            rest.split(|other: char| !other.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        let own = token(&command(exec)).expect("a token in the command");
        let client = hop(exec, "kubectl").expect("a client");
        let words = client["argv"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        assert_eq!(token(&words.join(" ")), Some(own), "client and process have the same token");
        assert_eq!((&exec["complete"], is_exact(exec)), (&Value::Bool(true), true), "{own}");
        let links = exec["links"].as_array().expect("links");
        let legs: Vec<Option<u64>> =
            links.iter().filter(|link| link["kind"] == "tcp").map(|link| link["tcp"]["bytes_sent"].as_u64()).collect();
        // Some connections had not closed by the end. The last leg has no TLS: its bytes match the token within 3000.
        let known: Vec<(usize, u64)> = legs.iter().enumerate().filter_map(|(at, sent)| Some((at, (*sent)?))).collect();
        assert!(legs.len() == 3 && !known.is_empty(), "{own}: {legs:?}");
        for (at, sent) in known {
            let more = if at == 2 { 3_000 } else { 6_000 };
            assert!((own * 3_000..own * 3_000 + more).contains(&sent), "{own}: {legs:?}");
        }
        seen.push(own);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100);
}

#[test]
fn later_answer_keeps_known_pod_uid() {
    let sessions = sessions("a-go127.jsonl.zst", &[]);
    let of_pod: Vec<&Value> = sessions.values().filter(|session| session["target"]["pod"] == "ho-web").collect();
    assert!(!of_pod.is_empty());
    for session in of_pod {
        let target = &session["target"];
        assert_eq!(target["runtime"], "containerd", "{target}");
        assert!(target["pod_uid"].is_string(), "{target}");
    }
}
