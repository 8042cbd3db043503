//! The bill of materials.

use std::fs;

use serde_json::Value;

use crate::{artefact, python_tool, succeed};

#[test]
fn list_is_valid_cyclonedx() {
    let script = "import sys\n\
                  from cyclonedx.schema import SchemaVersion\n\
                  from cyclonedx.validation.json import JsonStrictValidator\n\
                  error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())\n\
                  sys.exit(str(error) if error else 0)";
    succeed(std::process::Command::new(python_tool("python")).args(["-c", script]).arg(artefact("-amd64.cdx.json")));
}

#[test]
fn list_names_linked_crates_and_bpf_object() {
    let list: Value = serde_json::from_slice(&fs::read(artefact("-amd64.cdx.json")).expect("a file")).expect("JSON");
    let components = list["components"].as_array().expect("components");
    let find = |name: &str| components.iter().find(|component| component["name"] == name);
    for name in ["aya", "tokio", "zstd-sys"] {
        let sum = find(name).and_then(|component| component["hashes"][0]["content"].as_str());
        assert!(sum.is_some_and(|sum| sum.len() == 64), "{name}: {sum:?}");
    }
    assert!(find("xtask").is_none() && find("insta").is_none(), "tools and tests are not part of the binary");
    let object = fs::read(artefact("execpath.bpf.o")).expect("a file");
    let sums = fs::read_to_string(artefact("SHA256SUMS")).expect("a list");
    let sum = find("execpath.bpf.o").expect("the object")["hashes"][0]["content"].as_str().expect("a sum");
    assert!(sums.contains(&format!("{sum}  execpath.bpf.o")) && !object.is_empty());
}
