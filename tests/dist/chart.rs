//! The Helm chart and the kustomize base: two ways to one DaemonSet. The real Helm, as a library, lints and renders the chart.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::repository;

fn python() -> Command {
    Command::new(crate::python_tool("python"))
}

/// Runs a script with this input as JSON in `given`; its last expression is in `result`.
fn evaluate(script: &str, given: &Value) -> Value {
    let program = format!("import json, sys\ngiven = json.load(sys.stdin)\n{script}\njson.dump(result, sys.stdout)");
    let mut python = python();
    python.args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("Python starts");
    child.stdin.take().expect("a pipe").write_all(given.to_string().as_bytes()).expect("Python reads");
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "{script}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub(crate) fn rendered(values: &Value) -> Vec<Value> {
    let given = json!({"chart": repository("packaging/helm/execpath"), "values": values});
    let script = "import helm_python, yaml\n\
                  files = helm_python.Chart.load(given['chart']).render(given['values'], name='execpath', namespace='execpath')\n\
                  result = [doc for text in files.values() for doc in yaml.safe_load_all(text) if doc]";
    evaluate(script, &given).as_array().expect("objects").clone()
}

pub(crate) fn of_kustomize(folder: &str) -> Vec<Value> {
    let output = Command::new("kubectl").arg("kustomize").arg(repository(folder)).output().expect("kubectl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let given = json!(String::from_utf8(output.stdout).expect("text"));
    let script = "import yaml\nresult = [doc for doc in yaml.safe_load_all(given) if doc]";
    evaluate(script, &given).as_array().expect("objects").clone()
}

fn pod(objects: &[Value]) -> Value {
    let found = objects.iter().find(|object| object["kind"] == "DaemonSet").expect("a DaemonSet");
    found["spec"]["template"]["spec"].clone()
}

#[test]
fn chart_passes_strict_lint() {
    let given = json!(repository("packaging/helm/execpath"));
    let report = evaluate("import helm_python\nresult = helm_python.lint(given, strict=True)", &given);
    let messages = report["messages"].as_array().expect("messages");
    // 1 is a remark: a chart without an icon.
    assert!(messages.iter().all(|message| message["severity"] == 1), "{report}");
    assert_eq!(report["total_charts_linted"], 1);
    assert!(report["errors"].as_array().is_none_or(Vec::is_empty), "{report}");
}

#[test]
fn chart_and_base_have_the_same_pod() {
    assert_eq!(pod(&rendered(&json!({}))), pod(&of_kustomize("packaging/kubernetes/base")));
    let both = pod(&rendered(&json!({"controlPlane": true})));
    assert_eq!(both, pod(&of_kustomize("packaging/kubernetes/overlays/control-plane")));
    assert_eq!(both["tolerations"].as_array().map(Vec::len), Some(2));
}

#[test]
fn chart_and_overlays_have_the_same_pod() {
    let overlay = |name: &str| of_kustomize(&format!("packaging/kubernetes/overlays/{name}"));
    let measured = json!({"metrics": {"enabled": true, "podMonitor": true}});
    assert_eq!(pod(&rendered(&measured)), pod(&overlay("metrics")));
    assert_eq!(pod(&rendered(&json!({"otlp": {"endpoint": "$(NODE_IP):4317"}}))), pod(&overlay("otlp")));
    let endpoints = |objects: &[Value]| {
        let monitors: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "PodMonitor").collect();
        assert_eq!(monitors.len(), 1, "{objects:?}");
        assert_eq!(monitors[0]["metadata"]["namespace"], "execpath");
        monitors[0]["spec"]["podMetricsEndpoints"].clone()
    };
    assert_eq!(endpoints(&rendered(&measured)), endpoints(&overlay("pod-monitor")));
    let without = rendered(&json!({"metrics": {"podMonitor": true}}));
    assert!(without.iter().all(|object| object["kind"] != "PodMonitor"), "no metrics, nothing to scrape");
}

#[test]
fn unknown_value_is_refused() {
    let given = json!({"chart": repository("packaging/helm/execpath"), "values": {"rotation": "1h"}});
    let script = "import helm_python\n\
                  try:\n    helm_python.Chart.load(given['chart']).validate_schema(given['values'])\n    result = ''\n\
                  except helm_python.HelmValuesError as error:\n    result = str(error)";
    let error = evaluate(script, &given);
    assert!(error.as_str().is_some_and(|text| text.contains("rotation")), "{error}");
}

/// docs/privileges.md lists the capabilities of the pod, and the pod has no others.
#[test]
fn pod_has_documented_capabilities_alone() {
    let pod = pod(&of_kustomize("packaging/kubernetes/base"));
    let security = &pod["containers"][0]["securityContext"];
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    let documented = std::fs::read_to_string(repository("docs/privileges.md")).expect("a page");
    let added = security["capabilities"]["add"].as_array().expect("names");
    assert!(added.iter().all(|name| documented.contains(&format!("CAP_{}", name.as_str().expect("a name")))));
    assert_eq!(added.len(), 6);
    assert_eq!(security["readOnlyRootFilesystem"], true);
}
