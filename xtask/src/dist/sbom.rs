//! The bill of materials in CycloneDX's format: each crate of the binary with its version, licence and checksum, and the BPF object.
//!
//! cargo itself resolves the crates. Tools that write such a list put paths of the builder and random numbers into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::source::Source;
use crate::ebpf;
use crate::image::sha256;
use crate::kernels::Arch;
use crate::tools::{command, run};

/// Writes the list.
pub(super) fn write(source: &Source, arch: Arch, path: &Path) -> Result<()> {
    let mut metadata = source.cargo();
    metadata.args(["metadata", "--format-version=1", "--locked", "--filter-platform", arch.target()]);
    let metadata: Value = serde_json::from_str(&run(&mut metadata)?)?;
    let lock = fs::read_to_string(source.root().join("Cargo.lock"))?;
    let object = ebpf::committed(source.root())?;
    let time = run(command("date").args(["--utc", "--date", &format!("@{}", source.epoch()), "+%Y-%m-%dT%H:%M:%SZ"]))?;
    let list = list(&metadata, &checksums(&lock), &sha256(&object), time.trim())?;
    let text = serde_json::to_string_pretty(&list)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn list(metadata: &Value, checksums: &BTreeMap<(String, String), String>, object: &str, time: &str) -> Result<Value> {
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let root = packages.iter().find(|(_, package)| package["name"] == "execpath").context("no package execpath")?.0;
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    let mut queue = vec![*root];
    let mut seen = BTreeSet::from([*root]);
    while let Some(id) = queue.pop() {
        let package = packages.get(id).context("a package without a description")?;
        let reference = reference(package);
        components.insert(reference.clone(), component(package, checksums));
        let mut needs = BTreeSet::new();
        // A procedural macro is part of the compiler's run, not of the binary; so is all that it needs.
        for next in if is_macro(package) { Vec::new() } else { needed(nodes.get(id).copied()) } {
            needs.insert(self::reference(packages.get(next).context("an unknown package")?));
            if seen.insert(next) {
                queue.push(next);
            }
        }
        dependencies.insert(reference, needs);
    }
    let root = reference(packages[root]);
    let described = components.remove(&root);
    let mut components: Vec<Value> = components.into_values().collect();
    components.push(json!({
        "type": "file",
        "bom-ref": "execpath.bpf.o",
        "name": "execpath.bpf.o",
        "hashes": [{"alg": "SHA-256", "content": object}],
    }));
    if let Some(needs) = dependencies.get_mut(&root) {
        needs.insert("execpath.bpf.o".to_owned());
    }
    let dependencies: Vec<Value> =
        dependencies.into_iter().map(|(of, needs)| json!({"ref": of, "dependsOn": needs})).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time, "component": described},
        "components": components,
        "dependencies": dependencies,
    }))
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    list.as_array().into_iter().flatten().filter_map(|it| Some((it["id"].as_str()?, it))).collect()
}

fn is_macro(package: &Value) -> bool {
    let mut targets = package["targets"].as_array().into_iter().flatten();
    targets.any(|target| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "proc-macro")))
}

/// Ids of the packages that a package is linked with.
fn needed(node: Option<&Value>) -> Vec<&str> {
    let all = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
    // Other kinds are "dev" and "build".
    let is_normal = |need: &&Value| {
        need["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
    };
    all.filter(is_normal).filter_map(|need| need["pkg"].as_str()).collect()
}

/// Package URL, also the name of the package within the list.
fn reference(package: &Value) -> String {
    let text = |name: &str| package[name].as_str().unwrap_or_default().replace('+', "%2B");
    format!("pkg:cargo/{}@{}", text("name"), text("version"))
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let text = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
    let reference = reference(package);
    let kind = if text("name") == "execpath" { "application" } else { "library" };
    let mut component = json!({
        "type": kind,
        "bom-ref": reference,
        "name": package["name"],
        "version": package["version"],
        "purl": reference,
        "scope": if is_macro(package) { "excluded" } else { "required" },
    });
    if let Some(licence) = package["license"].as_str() {
        // cargo still accepts `MIT/Apache-2.0`; SPDX does not.
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    if let Some(sum) = checksums.get(&(text("name"), text("version"))) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

/// Checksums of Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let blocks = lock.split("[[package]]").skip(1);
    let rows = blocks.filter_map(|block| {
        let field = |name: &str| {
            let start = format!("{name} = \"");
            block.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('"')).map(str::to_owned)
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{checksums, list};

    #[test]
    fn list_has_linked_crates_with_checksums() {
        let package = |name: &str, kind: &str| json!({"id": name, "name": name, "version": "1.0.0+x", "license": "MIT/Apache-2.0", "targets": [{"kind": [kind]}]});
        let need = |name: &str, kind: serde_json::Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("execpath", "bin"), package("a", "lib"), package("derive", "proc-macro"),
                package("quote", "lib"), package("cc", "lib")],
            "resolve": {"nodes": [
                {"id": "execpath", "deps": [need("a", json!(null)), need("derive", json!(null)), need("cc", json!("build"))]},
                {"id": "derive", "deps": [need("quote", json!(null))]},
                {"id": "a", "deps": []},
            ]},
        });
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0+x\"\nchecksum = \"0123\"\n";
        let list = list(&metadata, &checksums(lock), "ffff", "2026-01-01T00:00:00Z").expect("a list");
        let components = list["components"].as_array().expect("components");
        let names: Vec<_> = components.iter().map(|it| it["name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["a", "derive", "execpath.bpf.o"]);
        assert_eq!(components[0]["hashes"][0]["content"], "0123");
        assert_eq!(components[0]["purl"], "pkg:cargo/a@1.0.0%2Bx");
        assert_eq!(components[0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(components[1]["scope"], "excluded");
    }
}
