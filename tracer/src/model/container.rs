//! Container and exec ids out of paths and arguments. Pure text functions; every input is hostile.

use serde::{Deserialize, Serialize};

use super::RawText;

/// Names of a container, read from the runtime's files on this host. No cluster credential is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Container id.
    pub id: String,
    /// Name in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Namespace of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// UID of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Id of the pod's sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// `containerd`, `docker`, `cri-o`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

impl ContainerInfo {
    /// Approximate memory use in bytes.
    pub(super) fn weight(&self) -> usize {
        let Self { id, name, pod, namespace, pod_uid, sandbox, runtime } = self;
        let texts = [name, pod, namespace, pod_uid, sandbox, runtime].into_iter().flatten().map(String::len);
        size_of_val(self) + id.len() + texts.sum::<usize>()
    }

    /// Adds each field that `other` knows and `self` does not. Known fields stay.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            id: self.id,
            name: self.name.or(other.name),
            pod: self.pod.or(other.pod),
            namespace: self.namespace.or(other.namespace),
            pod_uid: self.pod_uid.or(other.pod_uid),
            sandbox: self.sandbox.or(other.sandbox),
            runtime: self.runtime.or(other.runtime),
        }
    }
}

/// Container named by a cgroup path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRef {
    /// Container id.
    pub id: String,
    /// UID of the pod, with hyphens.
    pub pod_uid: Option<String>,
}

/// Exec and stream named by the path of a stdio FIFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecFifo {
    /// Container id.
    pub container: String,
    /// Exec id; the container's own id for the FIFOs of its first process.
    pub exec: String,
    /// `stdin`, `stdout` or `stderr`.
    pub stream: &'static str,
}

/// Arguments of `runc create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuncCreate {
    /// Container id.
    pub container: String,
    /// Folder that contains the container's `config.json`.
    pub bundle: RawText,
    /// Path of the pid file.
    pub pid_file: Option<RawText>,
    /// True if the container's first process gets a terminal.
    pub tty: bool,
}

/// Arguments of `runc exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuncExec {
    /// Container id.
    pub container: String,
    /// Exec id, taken from the name of the pid file.
    pub exec: Option<String>,
    /// Path of the pid file.
    pub pid_file: Option<RawText>,
    /// Folder of runc's container states (`--root`).
    pub root: Option<RawText>,
    /// True if runc exits as soon as the process runs (`--detach`). Otherwise runc stays until the process exits.
    pub detached: bool,
    /// Terminal of the process. `None` if only the process file knows: a runc that stays needs no console socket.
    pub tty: Option<bool>,
}

impl RuncExec {
    /// Path of runc's state of the container. The state file contains the bundle's path.
    #[must_use]
    pub fn state(&self) -> Option<RawText> {
        let root = self.root.as_ref()?.as_str()?;
        Some(RawText::from(format!("{}/{}", root.trim_end_matches('/'), self.container).as_str()))
    }
}

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

/// Longest Kubernetes name: a DNS subdomain (RFC 1123).
const MAX_NAME: usize = 253;
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// True for an id as containerd, dockerd and CRI-O make them: 64 hexadecimal digits. Other names are refused, so that
/// an unrelated path never counts as a container's.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// True for an exec id. containerd's CRI and dockerd use 64 digits; `ctr` takes any id that its user chose.
fn is_exec_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Container and pod of a cgroup path: `…/pod<uid>/<cid>` (cgroupfs) or `…-pod<uid with
/// underscores>.slice/cri-containerd-<cid>.scope` (systemd).
#[must_use]
pub fn parse_cgroup(path: &str) -> Option<ContainerRef> {
    let mut parts = path.trim_end().rsplit('/');
    let leaf = parts.next()?;
    let leaf = leaf.strip_suffix(".scope").unwrap_or(leaf);
    let id = leaf.rsplit(['-', ':']).next()?;
    if !is_id(id) {
        return None;
    }
    let pod_uid = parts.find_map(|part| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = &part[part.rfind("pod").filter(|at| *at == 0 || part.as_bytes()[at - 1] == b'-')? + 3..];
        let uid = uid.replace('_', "-");
        (!uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then_some(uid)
    });
    Some(ContainerRef { id: id.to_owned(), pod_uid })
}

/// True if any component of a cgroup path names that container: processes in a container may create cgroups below the
/// container's own.
#[must_use]
pub fn names_container(path: &str, id: &str) -> bool {
    !id.is_empty()
        && path.split('/').any(|part| {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            part.strip_suffix(id).is_some_and(|before| before.is_empty() || before.ends_with(['-', ':']))
        })
}

/// Container, exec and stream of a FIFO's path. containerd's CRI: `…/containers/<cid>/io/<number>/<exec>-stdout`;
/// dockerd: `…/<cid>/<exec>-stdout`.
#[must_use]
pub fn parse_fifo_path(path: &str) -> Option<ExecFifo> {
    let mut parts = path.rsplit('/');
    let leaf = parts.next()?;
    let (exec, stream) = leaf.rsplit_once('-')?;
    let stream = STREAMS.into_iter().find(|name| *name == stream)?;
    if !is_exec_id(exec) {
        return None;
    }
    let container = parts.take(3).find(|part| is_id(part))?;
    // dockerd's name for a container's first process (libcontainerd: InitProcessName).
    let exec = if exec == "init" { container } else { exec };
    Some(ExecFifo { container: container.to_owned(), exec: exec.to_owned(), stream })
}

/// True if the FIFO lies in the folder of containerd's CRI plug-in, which serves the kubelet. `ctr` and other clients
/// use other folders.
#[must_use]
pub fn is_of_cri(path: &str) -> bool {
    path.contains("/io.containerd.grpc.v1.cri/")
}

/// Container and exec id of `…/<cid>/<exec>.pid`, the pid file that containerd's shims keep for an exec. `None` for the
/// container's own pid file.
#[must_use]
pub fn parse_pid_file(path: &str) -> Option<(String, String)> {
    let mut parts = path.rsplit('/');
    let exec = parts.next()?.strip_suffix(".pid")?;
    let container = parts.next()?;
    (exec != "init" && !exec.is_empty()).then(|| (container.to_owned(), exec.to_owned()))
}

/// Arguments of `runc [GLOBAL…] exec [--tty] [--console-socket S] --process F --detach --pid-file …/<exec>.pid CID`, as
/// go-runc and CRI-O write them. The binary's name does not matter: crun, youki and wrappers take the same arguments.
#[must_use]
pub fn parse_runc_exec(argv: &[RawText]) -> Option<RuncExec> {
    let runc = Runc::parse(argv, "exec")?;
    let exec = runc
        .pid_file
        .and_then(|path| path.rsplit('/').next()?.strip_suffix(".pid"))
        .filter(|exec| is_exec_id(exec))
        .map(str::to_owned);
    let container = runc.container.filter(|_| runc.process)?.to_owned();
    // libcontainer refuses to detach a terminal without a console socket (utils_linux.go: `checkTerminal`).
    let tty = if runc.tty { Some(true) } else { runc.detached.then_some(false) };
    Some(RuncExec {
        container,
        exec,
        pid_file: runc.pid_file.map(RawText::from),
        root: runc.root.map(RawText::from),
        detached: runc.detached,
        tty,
    })
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

/// Arguments of `runc [GLOBAL…] create --bundle B [--console-socket S] --pid-file F CID`, as go-runc and conmon write
/// them.
#[must_use]
pub fn parse_runc_create(argv: &[RawText]) -> Option<RuncCreate> {
    let runc = Runc::parse(argv, "create")?;
    let container = runc.container.filter(|id| is_id(id))?.to_owned();
    let bundle = RawText::from(runc.bundle?);
    Some(RuncCreate { container, bundle, pid_file: runc.pid_file.map(RawText::from), tty: runc.tty })
}

/// Options of one runc command, as far as they matter here.
#[derive(Default)]
struct Runc<'a> {
    root: Option<&'a str>,
    detached: bool,
    tty: bool,
    process: bool,
    pid_file: Option<&'a str>,
    bundle: Option<&'a str>,
    container: Option<&'a str>,
}

impl<'a> Runc<'a> {
    fn parse(argv: &'a [RawText], command: &str) -> Option<Self> {
        let mut words = argv.iter().skip(1).map_while(|word| word.as_str());
        let mut runc = Self::default();
        loop {
            match words.next()? {
                word if word == command => break,
                "--root" | "-root" => runc.root = words.next(),
                word => runc.root = word.strip_prefix("--root=").or(runc.root),
            }
        }
        while let Some(word) = words.next() {
            // Runtimes pass the command in a file. Arguments after `--` belong to another program, such as `kubectl
            // exec`.
            if word == "--" {
                return None;
            }
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            match name.trim_start_matches('-') {
                "tty" | "t" if name.starts_with('-') => runc.tty = value != Some("false"),
                "console-socket" if name.starts_with('-') => {
                    runc.tty = true;
                    let _path = value.or_else(|| words.next());
                }
                "process" | "p" if name.starts_with('-') => runc.process = value.or_else(|| words.next()).is_some(),
                "detach" | "d" if name.starts_with('-') => runc.detached = value != Some("false"),
                "pid-file" if name.starts_with('-') => runc.pid_file = value.or_else(|| words.next()),
                "bundle" | "b" if name.starts_with('-') => runc.bundle = value.or_else(|| words.next()),
                _ if name.starts_with('-') => {}
                // The container is the last word: runc's command line contains no command of the container.
                _ => runc.container = Some(word),
            }
        }
        Some(runc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const EXEC: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[test]
    fn cgroup_names_container_in_any_component() {
        let id = "ab".repeat(32);
        for path in [
            format!("/kubepods/besteffort/pod1/{id}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods.slice/cri-containerd-{id}.scope/init.scope"),
            format!("/system.slice:docker:{id}/below"),
        ] {
            assert!(names_container(&path, &id), "{path}");
        }
        for path in [format!("/kubepods/pod1/{id}0"), format!("/kubepods/pod1/0{id}"), "/".to_owned(), String::new()] {
            assert!(!names_container(&path, &id), "{path}");
        }
        assert!(names_container("/default/web", "web") && !names_container("/default/web", ""));
    }

    #[test]
    fn cgroup_paths_of_both_drivers_name_container_and_pod() {
        let uid = "8c7a3f52-2f0f-4a08-9b39-0d4cf4e4d7a6";
        for path in [
            format!("/kubepods/besteffort/pod{uid}/{CID}"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice/cri-containerd-{CID}.scope",
                uid.replace('-', "_")
            ),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{}.slice:cri-containerd:{CID}",
                uid.replace('-', "_")
            ),
        ] {
            let found = parse_cgroup(&path).unwrap();
            assert_eq!(found.id, CID);
            if !path.contains(":cri") {
                assert_eq!(found.pod_uid.as_deref(), Some(uid), "{path}");
            }
        }
        assert_eq!(parse_cgroup("/user.slice/session-1.scope"), None);
        assert_eq!(parse_cgroup(""), None);
    }

    #[test]
    fn fifo_paths_of_containerd_and_dockerd_name_container_and_exec() {
        for path in [
            format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{CID}/io/1234/{EXEC}-stdout"),
            format!("/var/run/docker/containerd/{CID}/{EXEC}-stdout"),
        ] {
            let found = parse_fifo_path(&path).unwrap();
            assert_eq!((found.container.as_str(), found.exec.as_str(), found.stream), (CID, EXEC, "stdout"));
        }
        let init = parse_fifo_path(&format!("/run/docker/containerd/{CID}/init-stdout")).unwrap();
        assert_eq!(init.exec, CID, "the container's own");
        assert_eq!(parse_fifo_path("/tmp/mine-stdout"), None);
        assert_eq!(parse_fifo_path(&format!("/x/{CID}/{EXEC}-log")), None);
    }

    #[test]
    fn runc_create_is_recognised_by_its_arguments() {
        let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{CID}");
        let line = format!("runc --root /run/r create --bundle {bundle} --pid-file {bundle}/init.pid {CID}");
        let argv = |line: &str| -> Vec<RawText> { line.split_whitespace().map(RawText::from).collect() };
        let found = parse_runc_create(&argv(&line)).unwrap();
        assert_eq!((found.container.as_str(), found.tty), (CID, false));
        assert_eq!(found.bundle.as_str(), Some(bundle.as_str()));
        assert_eq!(parse_runc_create(&argv("kubectl create --bundle x job")), None, "no id");
        assert_eq!(parse_runc_create(&argv(&format!("runc start {CID}"))), None);
        assert_eq!(parse_runc_exec(&argv(&line)), None);
    }

    #[test]
    fn pid_files_name_container_and_exec() {
        let found = parse_pid_file(&format!("/run/x/k8s.io/{CID}/{EXEC}.pid")).unwrap();
        assert_eq!((found.0.as_str(), found.1.as_str()), (CID, EXEC));
        assert_eq!(parse_pid_file(&format!("/run/x/k8s.io/{CID}/init.pid")), None, "the container's first process");
        assert_eq!(parse_pid_file(".pid"), None);
    }

    #[test]
    fn attached_runc_leaves_terminal_to_process_file() {
        let parse = |line: &str| {
            let argv: Vec<RawText> = line.split_whitespace().map(RawText::from).collect();
            parse_runc_exec(&argv)
        };
        let stays = parse(&format!("/usr/sbin/runc --root /run/crio/runc exec --process /tmp/p {CID}")).unwrap();
        assert_eq!((stays.exec.as_deref(), stays.detached, stays.tty), (None, false, None));
        assert_eq!(stays.state().unwrap().as_str(), Some(format!("/run/crio/runc/{CID}").as_str()));
        let ends =
            parse(&format!("runc --root=/r/ exec --pid-file /tmp/pidfile1 --process /tmp/p --detach {CID}")).unwrap();
        assert_eq!((ends.exec.as_deref(), ends.detached, ends.tty), (None, true, Some(false)));
        assert_eq!(ends.state().unwrap().as_str(), Some(format!("/r/{CID}").as_str()));
        assert_eq!(parse(&format!("runc exec --process /tmp/p --tty {CID}")).unwrap().tty, Some(true));
        assert_eq!(parse(&format!("runc exec --process /tmp/p {CID}")).unwrap().state(), None);
        assert_eq!(parse("runc --root exec"), None);
    }

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

    #[test]
    fn known_name_survives_merge_with_missing_name() {
        let rich =
            ContainerInfo { id: CID.into(), pod: Some("a".into()), pod_uid: Some("u".into()), ..Default::default() };
        let poor =
            ContainerInfo { id: CID.into(), name: Some("c".into()), pod: Some("b".into()), ..Default::default() };
        let both = ContainerInfo { name: Some("c".into()), ..rich.clone() };
        assert_eq!(rich.clone().or(poor.clone()), both);
        assert_eq!(poor.or(rich.clone()).pod_uid, rich.pod_uid);
    }

    #[test]
    fn runc_exec_is_recognised_under_any_binary_name() {
        let pid_file = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{CID}/{EXEC}.pid");
        let words = [
            "/usr/bin/crun",
            "--root",
            "/run/r",
            "--log",
            "/x/log.json",
            "exec",
            "--process",
            "/tmp/p",
            "--console-socket",
            "/tmp/s",
            "--detach",
            "--pid-file",
            &pid_file,
            CID,
        ];
        let argv: Vec<RawText> = words.into_iter().map(RawText::from).collect();
        let found = parse_runc_exec(&argv).unwrap();
        assert_eq!(
            found,
            RuncExec {
                container: CID.into(),
                exec: Some(EXEC.into()),
                pid_file: Some(pid_file.as_str().into()),
                root: Some("/run/r".into()),
                detached: true,
                tty: Some(true)
            }
        );
        for not_it in [
            vec!["kubectl", "exec", "web", "--", "sh"],
            vec!["kubectl", "exec", "db", "--", "mysql", "-p", "secret", "db"],
            vec!["runc", "kill", CID],
            vec!["runc"],
            vec![],
        ] {
            let argv: Vec<RawText> = not_it.into_iter().map(RawText::from).collect();
            assert_eq!(parse_runc_exec(&argv), None);
        }
    }
}
