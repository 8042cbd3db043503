//! Configuration of the daemons.

use std::path::Path;

use serde_json::{Value, json};

use super::image::PAUSE;
use super::network::Host;
use super::packages::CNI_PLUGINS;
use super::pki::NODE;
use super::state::{Runtime, State};
use super::version::Version;

/// containerd's socket: the path that real nodes use.
pub(super) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// dockerd's socket.
pub(super) const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Subnet of the pods with a network of their own.
const POD_SUBNET: &str = "10.244.1.0/24";

/// containerd's configuration, with the paths of real nodes and the lab's own CNI configuration.
pub(super) fn containerd(cni_conf_dir: &Path) -> String {
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE, runc may not lower the score and fails.
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#,
        cni_conf_dir.display()
    )
}

/// CNI configuration for pods without the host network: a bridge on the worker. No masquerading, since no route leads
/// outside.
pub(super) fn cni(ipam_dir: &Path) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "lab",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": ipam_dir,
                "ranges": [[{"subnet": POD_SUBNET}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

/// Audits requests that open sessions, at every stage and without bodies. The stages give the times of receipt,
/// upgrade and end. All other requests are dropped: they are many and carry no session.
pub(super) fn audit_policy() -> Value {
    let sessions = ["pods/exec", "pods/attach", "pods/portforward"];
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [
        {"level": "Metadata", "resources": [{"group": "", "resources": sessions}]},
        {"level": "None"},
    ]})
}

/// The API server's arguments.
pub(super) fn apiserver_args(state: &State, version: Version) -> Vec<String> {
    let pki = |name: &str| state.path("pki").join(name).display().to_string();
    let mut args = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--secure-port=6443".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={}", Host::Master.address()),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("kubelet-client.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-account-key-file={}", pki("sa.pub")),
        format!("--service-account-signing-key-file={}", pki("sa.key")),
        "--service-account-issuer=https://kubernetes.default".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // No controller manager runs that would create the service accounts.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--audit-policy-file={}", state.path("audit-policy.json").display()),
        format!("--audit-log-path={}", state.path("audit.log").display()),
        "--audit-log-format=json".to_owned(),
    ];
    if version < Version::one(24) {
        args.push("--insecure-port=0".to_owned());
    }
    args
}

/// The kubelet's configuration file, as JSON, which is valid YAML.
pub(super) fn kubelet(state: &State, version: Version) -> Value {
    let pki = |name: &str| state.path("pki").join(name);
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "port": 10250,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": pki("kubelet.crt"),
        "tlsPrivateKeyFile": pki("kubelet.key"),
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "hairpinMode": "none",
        "makeIPTablesUtilChains": false,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
    });
    if version >= Version::one(27) {
        config["containerRuntimeEndpoint"] = json!(format!("unix://{CONTAINERD_SOCKET}"));
    }
    if version >= Version::one(31) {
        config["failCgroupV1"] = json!(false);
    }
    config
}

/// The kubelet's arguments.
pub(super) fn kubelet_args(state: &State, version: Version, runtime: Runtime) -> Vec<String> {
    let mut args = vec![
        format!("--config={}", state.path("kubelet.json").display()),
        format!("--kubeconfig={}", state.kubeconfig("kubelet").display()),
        format!("--hostname-override={NODE}"),
        format!("--node-ip={}", Host::Worker.address()),
        format!("--root-dir={}", state.path("kubelet").display()),
    ];
    match runtime {
        Runtime::Docker => args.extend([
            "--container-runtime=docker".to_owned(),
            format!("--docker-endpoint=unix://{DOCKER_SOCKET}"),
            format!("--pod-infra-container-image={PAUSE}"),
            "--network-plugin=cni".to_owned(),
            format!("--cni-bin-dir={CNI_PLUGINS}"),
            format!("--cni-conf-dir={}", state.path("cni/net.d").display()),
            format!("--cni-cache-dir={}", state.path("cni/cache").display()),
        ]),
        Runtime::Containerd => {
            if version < Version::one(27) {
                args.extend([
                    "--container-runtime=remote".to_owned(),
                    format!("--container-runtime-endpoint=unix://{CONTAINERD_SOCKET}"),
                ]);
            }
            if version < Version::one(24) {
                args.push(format!("--pod-infra-container-image={PAUSE}"));
            }
        }
    }
    args
}

/// dockerd's arguments. No bridge and no firewall: the CNI plug-ins set up the network.
pub(super) fn dockerd_args(runc: &Path) -> Vec<String> {
    vec![
        format!("--host=unix://{DOCKER_SOCKET}"),
        format!("--containerd={CONTAINERD_SOCKET}"),
        "--iptables=false".to_owned(),
        "--bridge=none".to_owned(),
        "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
        format!("--add-runtime=lab={}", runc.display()),
        "--default-runtime=lab".to_owned(),
    ]
}

/// dockerd's runtime: runc with the OOM score set to 0, because root may not lower the score without
/// CAP_SYS_RESOURCE. containerd has a setting for this, dockerd has none.
pub(super) fn runc_wrapper(runc: &Path) -> String {
    format!(
        r#"#!/bin/sh
bundle= previous=
for arg; do
  [ "$previous" = --bundle ] && bundle=$arg
  previous=$arg
done
[ -n "$bundle" ] && sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$bundle/config.json"
exec '{}' "$@"
"#,
        runc.display()
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{apiserver_args, audit_policy, cni, containerd, kubelet, kubelet_args};
    use crate::lab::state::{Runtime, State};
    use crate::lab::version::Version;

    fn state() -> State {
        State::of_environment().expect("state path is valid")
    }

    #[test]
    fn containerd_uses_lab_network_and_images() {
        let text = containerd(Path::new("/lab/cni/net.d"));
        assert!(text.contains(r#"bin_dir = "/usr/lib/cni""#));
        assert!(text.contains(r#"conf_dir = "/lab/cni/net.d""#));
        assert!(text.contains(r#"sandbox_image = "localhost/lab/pause:1""#));
    }

    #[test]
    fn pod_addresses_are_kept_in_lab_directory() {
        assert_eq!(cni(Path::new("/lab/ipam"))["plugins"][0]["ipam"]["dataDir"], "/lab/ipam");
    }

    #[test]
    fn insecure_port_is_closed_if_it_exists() {
        let has = |minor| apiserver_args(&state(), Version::one(minor)).contains(&"--insecure-port=0".to_owned());
        assert!(has(20));
        assert!(!has(24));
    }

    #[test]
    fn only_sessions_are_audited() {
        let policy = audit_policy();
        assert_eq!(policy["rules"][0]["resources"][0]["resources"][0], "pods/exec");
        assert_eq!(policy["rules"][1], serde_json::json!({"level": "None"}));
        assert!(policy.get("omitStages").is_none(), "every stage is audited");
        let args = apiserver_args(&state(), Version::one(20)).join(" ");
        assert!(args.contains("--audit-policy-file=") && args.contains("--audit-log-format=json"));
    }

    #[test]
    fn kubelet_gets_runtime_where_its_version_expects_it() {
        let args = |minor, runtime| kubelet_args(&state(), Version::one(minor), runtime).join(" ");
        assert!(args(20, Runtime::Containerd).contains("--container-runtime=remote"));
        assert!(!args(27, Runtime::Containerd).contains("--container-runtime"));
        assert!(args(20, Runtime::Docker).contains("--docker-endpoint=unix:///var/run/docker.sock"));
        assert!(kubelet(&state(), Version::one(26)).get("containerRuntimeEndpoint").is_none());
        assert!(kubelet(&state(), Version::one(27)).get("containerRuntimeEndpoint").is_some());
        assert!(kubelet(&state(), Version::one(35)).get("failCgroupV1").is_some());
    }
}
