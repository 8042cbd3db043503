//! Arguments of the OCI runtime (runc, crun, youki), which every container runtime starts in the same way. Pure text
//! functions; every input is hostile.

use crate::model::{
    RawText,
    container::{is_exec_id, is_id},
};

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

/// Arguments of `runc [GLOBAL…] create --bundle B [--console-socket S] --pid-file F CID`, as go-runc and conmon write
/// them.
#[must_use]
pub fn parse_runc_create(argv: &[RawText]) -> Option<RuncCreate> {
    let runc = Runc::parse(argv, "create")?;
    let container = runc.container.filter(|id| is_id(id))?.to_owned();
    let bundle = RawText::from(runc.bundle?);
    Some(RuncCreate { container, bundle, pid_file: runc.pid_file.map(RawText::from), tty: runc.tty })
}

/// Container of `runc [GLOBAL…] kill [--all] CID SIGNAL`, as go-runc and conmon's callers write it.
#[must_use]
pub fn parse_runc_kill(argv: &[RawText]) -> Option<String> {
    let mut words = argv.iter().skip(1).map_while(|word| word.as_str()).skip_while(|word| *word != "kill").skip(1);
    words.find(|word| !word.starts_with('-')).filter(|word| is_id(word)).map(str::to_owned)
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
    fn runc_kill_names_its_container() {
        let parse = |line: &str| {
            let argv: Vec<RawText> = line.split_whitespace().map(RawText::from).collect();
            parse_runc_kill(&argv)
        };
        assert_eq!(parse(&format!("runc --root /run/r --log /x.json kill --all {CID} 9")).as_deref(), Some(CID));
        assert_eq!(parse(&format!("crun kill {CID} 15")).as_deref(), Some(CID));
        for other in ["kill -9 4711", "runc kill", &format!("runc delete {CID}"), ""] {
            assert_eq!(parse(other), None, "{other}");
        }
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
