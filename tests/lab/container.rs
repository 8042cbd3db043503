//! execpath in a container of the lab's node, with four capabilities and the runtime's default seccomp profile. Only kubectl
//! starts it there, so the container runtime sets its capabilities and its profile.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use execpath_tests::binary::finish;
use serde_json::{Value, json};

use crate::{
    env::lab,
    kubectl::kubectl,
    privileges::{Shared, lists_as_root},
};

/// Name of the pod and its container.
const NAME: &str = "confined";

fn admin(words: &[&str]) -> Command {
    let mut command = kubectl(lab().newest(), "admin", 0);
    command.args(words);
    command
}

/// A pod on the node, deleted on drop.
struct Pod {
    shared: Shared,
}

impl Pod {
    /// Starts a pod that shares pids and network with the node.
    fn start() -> Self {
        let pod = Self { shared: Shared::new() };
        let spec = pod.manifest().to_string();
        let mut child =
            admin(&["create", "--validate=false", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("kubectl");
        child.stdin.take().expect("a pipe").write_all(spec.as_bytes()).expect("kubectl reads");
        assert!(child.wait().expect("kubectl ends").success(), "{spec}");
        let ready = finish(&mut admin(&["wait", "--for=condition=Ready", "--timeout=60s", &format!("pod/{NAME}")]));
        assert_eq!(ready.code, Some(0), "{}", ready.stderr);
        pod
    }

    /// The image has a shell alone: the program comes from the host, with its libraries.
    fn manifest(&self) -> Value {
        let program = self.shared.program();
        let folders =
            [("program", program.parent().expect("a folder")), ("lib", "/lib".as_ref()), ("lib64", "/lib64".as_ref())];
        let volumes = folders.map(|(name, path)| json!({"name": name, "hostPath": {"path": path}}));
        let mounts = ["program", "lib", "lib64"]
            .map(|name| json!({"name": name, "mountPath": format!("/{name}"), "readOnly": true}));
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": NAME, "namespace": "default"},
            "spec": {
                "nodeName": "lab-node",
                "hostPID": true,
                "hostNetwork": true,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "volumes": volumes,
                "containers": [{
                    "name": NAME,
                    "image": "localhost/lab/box:1",
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "2147483647"],
                    "env": [{"name": "EXECPATH_STRICT_SANDBOX", "value": "1"}],
                    "volumeMounts": mounts,
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"]},
                    },
                }],
            },
        })
    }

    /// A command in the container.
    fn run(words: &[&str]) -> Command {
        let mut command = admin(&["exec", NAME, "-c", NAME, "--"]);
        command.args(words);
        command
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        finish(&mut admin(&["delete", "pod", NAME, "--grace-period=0", "--force"]));
    }
}

#[test]
fn container_with_four_capabilities_lists_as_root() {
    let _pod = Pod::start();
    let status = finish(&mut Pod::run(&["cat", "/proc/self/status"])).stdout;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a field").trim().to_owned();
    // DAC_READ_SEARCH 2, SYS_PTRACE 19, PERFMON 38, BPF 39 (include/uapi/linux/capability.h).
    assert_eq!(u64::from_str_radix(&field("CapBnd:"), 16), Ok(1 << 2 | 1 << 19 | 1 << 38 | 1 << 39));
    // SECCOMP_MODE_FILTER (include/uapi/linux/seccomp.h).
    assert_eq!(field("Seccomp:"), "2");
    lists_as_root(|| Pod::run(&["/program/execpath"]));
}
