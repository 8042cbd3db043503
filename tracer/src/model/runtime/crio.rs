//! CRI-O, with its monitor conmon; podman starts containers in the same way.
//!
//! An exec has no FIFOs and no id: CRI-O runs `runc exec` in the goroutine that serves the stream, and reads the process's
//! pipes itself. runc stays as long as the process. For a probe, and with a terminal, CRI-O starts conmon in between.

use super::row::{Layout, Names, Runtime};
use crate::model::{ContainerInfo, RawText, container::is_id};

/// The row of CRI-O.
pub(super) static ROW: Runtime = Runtime {
    name: "cri-o",
    sockets: &["/run/crio/crio.sock"],
    exec_socket: None,
    shim_socket: None,
    comms: &["crio", "conmon"],
    starters: &["conmon"],
    // containers/storage, shared with podman.
    bundles: &["/run/containers/storage/overlay-containers", "/var/lib/containers/storage/overlay-containers"],
    layout: Layout::Userdata,
    bundle_mark: Some("overlay-containers"),
    delegates: false,
    first_pid_file: "userdata/pidfile",
    first_exec: None,
    kubelet_fifos: None,
    netns_folder: None,
    names: Names {
        folder: None,
        // The annotations are CRI-O's own, with any folder for its storage.
        own_prefix: Some("io.kubernetes.cri-o."),
        kind: "io.kubernetes.cri-o.ContainerType",
        sandbox_kind: "sandbox",
        sandbox: "io.kubernetes.cri-o.SandboxID",
        container: "io.kubernetes.container.name",
        pod: "io.kubernetes.pod.name",
        namespace: "io.kubernetes.pod.namespace",
        pod_uid: "io.kubernetes.pod.uid",
    },
};

/// Longest Kubernetes name: a DNS subdomain (RFC 1123).
const MAX_NAME: usize = 253;

/// Arguments of a container monitor (conmon: `src/cli.c`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Container id.
    pub container: String,
    /// True if the monitor serves one exec (`--exec`), false if it serves the container's first process.
    pub exec: bool,
    /// True if the process gets a terminal.
    pub tty: bool,
    /// True if the process gets input.
    pub stdin: bool,
    /// Pod and container names, parsed from the container's name (`--name`).
    pub names: ContainerInfo,
}

/// Arguments of `conmon -c CID -n NAME -r RUNTIME … [-e] [-i] [-t]`, as CRI-O and podman write them. The binary's name
/// does not matter.
#[must_use]
pub fn parse_monitor(argv: &[RawText]) -> Option<Monitor> {
    let (mut container, mut name, mut runtime) = (None, None, None);
    let (mut exec, mut tty, mut stdin) = (false, false, false);
    let mut words = argv.iter().skip(1).map_while(RawText::as_str);
    while let Some(word) = words.next() {
        match word {
            "-c" | "--cid" => container = words.next(),
            "-n" | "--name" => name = words.next(),
            "-r" | "--runtime" => runtime = words.next(),
            "-e" | "--exec" => exec = true,
            "-t" | "--terminal" => tty = true,
            "-i" | "--stdin" => stdin = true,
            _ => {}
        }
    }
    let container = container.filter(|id| is_id(id))?.to_owned();
    runtime?;
    let names = name.and_then(|name| parse_kube_name(&container, name));
    let names = names.unwrap_or_else(|| ContainerInfo { id: container.clone(), ..ContainerInfo::default() });
    Some(Monitor { container, exec, tty, stdin, names })
}

/// Names out of `k8s_<container>_<pod>_<namespace>_<pod uid>_<attempt>`, the container name of CRI-O and dockershim. No
/// part contains an underscore. A pod's sandbox has `POD` as its container.
fn parse_kube_name(id: &str, name: &str) -> Option<ContainerInfo> {
    let parts: Vec<&str> = name.split('_').collect();
    let ["k8s", container, pod, namespace, uid, attempt] = parts[..] else { return None };
    let is_name = |text: &str| {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_of_name)
    };
    let is_attempt = !attempt.is_empty() && attempt.bytes().all(|byte| byte.is_ascii_digit());
    (is_attempt && [container, pod, namespace, uid].into_iter().all(is_name)).then(|| ContainerInfo {
        id: id.to_owned(),
        name: Some(container).filter(|container| *container != "POD").map(str::to_owned),
        pod: Some(pod.to_owned()),
        namespace: Some(namespace.to_owned()),
        pod_uid: Some(uid.to_owned()),
        ..ContainerInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn monitor_is_recognised_by_its_arguments() {
        let parse = |line: &str| {
            let argv: Vec<RawText> = line.split_whitespace().map(RawText::from).collect();
            parse_monitor(&argv)
        };
        let line =
            format!("/usr/bin/conmon -c {CID} -n k8s_web_web-0_shop_ab-1_0 -r /usr/sbin/runc -p /tmp/pidfile1 -e");
        let probe = parse(&line).unwrap();
        assert_eq!((probe.container.as_str(), probe.exec, probe.tty, probe.stdin), (CID, true, false, false));
        let names = [&probe.names.name, &probe.names.pod, &probe.names.namespace, &probe.names.pod_uid];
        assert_eq!(names.map(Option::as_deref), [Some("web"), Some("web-0"), Some("shop"), Some("ab-1")]);
        let own = parse(&format!("conmon -c {CID} -n k8s_POD_web-0_shop_ab-1_0 -r /usr/sbin/runc -i -t")).unwrap();
        assert_eq!((own.exec, own.tty, own.stdin, own.names.name), (false, true, true, None));
        for odd in ["mine", "k8s_a_b_c_d", "k8s_a_b_c_d_x", "k8s_a_b_c__0", "k8s_a_b_c/../d_e_0"] {
            let found = parse(&format!("conmon -c {CID} -n {odd} -r runc")).unwrap();
            assert_eq!(found.names.pod, None, "{odd}");
        }
        for not_it in [format!("tar -c {CID}"), "conmon -c web -r runc".into(), format!("x -r {CID}"), String::new()] {
            assert_eq!(parse(&not_it), None, "{not_it}");
        }
    }
}
