//! What clients do that are not kubectl.

use std::{
    fmt::Write as _,
    fs::{self, File},
    process::Stdio,
};

use serde_json::{Value, json};

use super::Session;
use crate::{
    env::{lab, xtask},
    kubectl::{Kubectl, mark},
};

/// Where the API server is, and who is the administrator.
pub(super) fn kubeconfig() -> Value {
    let text = fs::read(&lab().kubeconfigs["admin"]).expect("a kubeconfig");
    serde_json::from_slice(&text).expect("JSON is YAML")
}

/// A session of the load driver, which speaks WebSocket in a version that has no message for the end of input. Its own input is a
/// file that ends.
fn session_whose_input_ends(script: &str) -> Session {
    let mark = mark();
    let config = kubeconfig();
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let server = cluster["server"].as_str().and_then(|url| url.strip_prefix("https://")).expect("an address");
    let to = json!({
        "address": server,
        "ca": cluster["certificate-authority-data"],
        "cert": user["client-certificate-data"],
        "key": user["client-key-data"],
        "atOnce": 1,
        "hold": true,
    });
    let script = format!(": {mark}; echo done; {script}; :");
    let command = ["sh", "-c", &script].map(|word| format!("&command={}", escaped(word))).concat();
    let path = format!("/api/v1/namespaces/default/pods/web/exec?container=web&stdin=true&stdout=true{command}");
    let asked = format!("{to}\n{}\n\nthe end\n", json!({"token": mark, "bytes": 0, "path": path}));
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("input");
    fs::write(&input, asked).expect("a file");
    let mut command = xtask(&["lab", "load"]);
    command.stdin(File::open(&input).expect("a file")).stdout(Stdio::piped()).stderr(Stdio::piped());
    Session::of(mark, Kubectl::start(&mut command, None))
}

fn escaped(word: &str) -> String {
    word.bytes().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

#[test]
fn f20_the_end_of_a_file_is_not_passed_on() {
    session_whose_input_ends("cat").is("F20");
}
