//! Identification of runtime, kubelet and client.

use serde_json::Value;

use super::lines;

/// `(role, pid)` of each hop in this state of a session.
fn hops(session: &Value) -> Vec<(String, u64)> {
    let of =
        |hop: &Value| (hop["role"].as_str().unwrap_or_default().to_owned(), hop["pid"].as_u64().unwrap_or_default());
    session["hops"].as_array().into_iter().flatten().map(of).collect()
}

#[test]
fn renamed_socket_never_makes_runtime_a_client() {
    const CRI_DOCKERD: u64 = 27_347;
    let mut states = Vec::new();
    for line in lines("cri-dockerd-renamed-socket.jsonl.zst", &[]) {
        let session = &line["session"];
        let Some((role, _)) = hops(session).into_iter().find(|(_, pid)| *pid == CRI_DOCKERD) else { continue };
        let complete = session["complete"].as_bool().expect("a boolean");
        assert!(role != "kubectl" && session["kind"] != "local", "{session:#}");
        // The recording does not name cri-dockerd's socket: until it forwards output, it may be any client of dockerd.
        assert_eq!(role == "runtime", complete, "{session:#}");
        states.push((session["kind"].clone(), role, complete));
    }
    assert_eq!(states.last(), Some(&(Value::from("exec"), "runtime".to_owned(), true)), "{states:?}");
    assert!(states.iter().any(|(_, _, complete)| !complete), "{states:?}");
}
