//! Pods, the users' rights, and calls of kubectl.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::image::BOX;
use super::network::Host;
use super::pki::{ADMIN, GROUP, NODE};
use super::state::{Facts, State};
use crate::hint::hinted;
use crate::progress::Progress;
use crate::tools::{run, run_with_input};

/// The pods that always exist:
///
/// * `web` with the containers `web` and `side`, on the host's network;
/// * `own-net` with the container `own-net`, with its own network;
/// * `probed` with the container `probed`, on the host's network: the kubelet execs into it every second.
pub(super) const STANDING: [&str; 3] = ["web", "own-net", "probed"];

/// Upper limit of idle pods. A kubelet takes 110 pods, a small machine fewer.
const MAX_NOISE: u32 = 50;

/// Builds a kubectl command on the client's host, as the administrator.
pub(super) fn kubectl(state: &State, facts: &Facts) -> Result<Command> {
    let mut kubectl = Host::Client.command(facts.kubectls.newest()?)?;
    for (name, value) in environment(state, ADMIN) {
        kubectl.env(name, value);
    }
    Ok(kubectl)
}

/// Environment of kubectl. The kubeconfig is set here, so that the command line stays as a user would type it. HOME
/// is the lab's, for the caches that kubectl writes.
pub(super) fn environment(state: &State, user: &str) -> [(&'static str, std::path::PathBuf); 2] {
    [("KUBECONFIG", state.kubeconfig(user)), ("HOME", state.path("home"))]
}

/// Lets the users view pods and open sessions in them.
pub(super) fn allow_users(state: &State, facts: &Facts) -> Result<()> {
    create_objects(state, facts, &[users_role(), users_binding()])
}

/// Creates the standing pods.
pub(super) fn create(state: &State, facts: &Facts) -> Result<()> {
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 5});
    let mut probed = container("probed");
    probed["readinessProbe"] = probe;
    let pods = [
        pod("web", "web", true, &[container("web"), container("side")]),
        pod("own-net", "own-net", false, &[container("own-net")]),
        pod("probed", "probed", true, &[probed]),
    ];
    create_objects(state, facts, &pods)
}

/// Waits until these pods are ready, at most 120 s.
pub(super) fn wait_ready(state: &State, facts: &Facts, names: &[impl AsRef<str>]) -> Result<()> {
    let mut wait = kubectl(state, facts)?;
    wait.args(["wait", "--for=condition=Ready", "--timeout=120s"]);
    wait.args(names.iter().map(|name| format!("pod/{}", name.as_ref())));
    run(&mut wait).map(drop).map_err(|error| {
        let log = state.log("kubelet");
        hinted(format!("{error:#}"), format!("see `cargo xtask lab exec describe pods` and {}", log.display()))
    })
}

/// Creates or deletes idle pods until exactly `noise-0` to `noise-(count-1)` exist. They are labelled `app=noise`,
/// and each has a container `noise` on the host's network.
pub(super) fn noise(state: &State, facts: &Facts, count: u32, progress: &Progress) -> Result<()> {
    if count > MAX_NOISE {
        return Err(hinted(format!("{count} idle pods are too many"), format!("at most {MAX_NOISE}")));
    }
    let text = run(kubectl(state, facts)?.args(["get", "pods", "-l", "app=noise", "-o", "json"]))?;
    let there = names_in(&serde_json::from_str(&text)?);
    let wanted: Vec<String> = (0..count).map(|number| format!("noise-{number}")).collect();
    let new: Vec<Value> = wanted
        .iter()
        .filter(|name| !there.contains(*name))
        .map(|name| pod(name, "noise", true, &[container("noise")]))
        .collect();
    if !new.is_empty() {
        create_objects(state, facts, &new)?;
    }
    let surplus: Vec<&String> = there.iter().filter(|name| !wanted.contains(name)).collect();
    if !surplus.is_empty() {
        run(kubectl(state, facts)?.args(["delete", "pod"]).args(surplus))?;
    }
    if !wanted.is_empty() {
        wait_ready(state, facts, &wanted)?;
    }
    progress.report(format!("idle pods: {count}"));
    Ok(())
}

fn names_in(list: &Value) -> BTreeSet<String> {
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some(item.pointer("/metadata/name")?.as_str()?.to_owned())).collect()
}

pub(super) fn create_objects(state: &State, facts: &Facts, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut create = kubectl(state, facts)?;
    create.args(["create", "--validate=false", "-f", "-"]);
    run_with_input(&mut create, &serde_json::to_vec(&list)?).map(drop)
}

/// Builds a pod. It names its node, because there is no scheduler.
pub(super) fn pod(name: &str, app: &str, host_network: bool, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
        "spec": {
            "nodeName": NODE,
            "hostNetwork": host_network,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            "containers": containers,
        },
    })
}

/// Builds a container that prints one line, for `kubectl logs`, and then sleeps.
pub(super) fn container(name: &str) -> Value {
    let script = format!("echo {name} is there; exec sleep 2147483647");
    json!({"name": name, "image": BOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script]})
}

fn users_role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": GROUP},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"]},
            // SPDY begins with a POST, the verb "create"; WebSocket begins with a GET.
            {
                "apiGroups": [""],
                "resources": ["pods/exec", "pods/attach", "pods/portforward"],
                "verbs": ["get", "create"],
            },
        ],
    })
}

fn users_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": GROUP},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": GROUP},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP}],
    })
}

/// Replaces this process with kubectl, which then owns the terminal, the signals and the exit status.
pub(super) fn exec(state: &State, user: &str, kubectl: &Path, args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let config = state.kubeconfig(user);
    if !config.exists() {
        return Err(hinted(format!("no user \"{user}\""), "use admin, alice, bob or carol"));
    }
    Host::Client.enter()?;
    let error = Command::new(kubectl).envs(environment(state, user)).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", kubectl.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{container, names_in, pod};

    #[test]
    fn pod_names_node_and_never_pulls() {
        let pod = pod("web", "web", true, &[container("web"), container("side")]);
        assert_eq!(pod["spec"]["nodeName"], "lab-node");
        assert_eq!(pod["spec"]["containers"][1]["imagePullPolicy"], "Never");
    }

    #[test]
    fn pod_names_are_read_from_list() {
        let list = json!({"items": [{"metadata": {"name": "noise-0"}}, {"metadata": {"name": "noise-1"}}]});
        assert_eq!(names_in(&list).into_iter().collect::<Vec<_>>(), ["noise-0", "noise-1"]);
        assert!(names_in(&json!({"items": []})).is_empty());
    }
}
