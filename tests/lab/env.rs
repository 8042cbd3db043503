//! Facts about the lab, from `cargo xtask lab env`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::PathBuf,
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use execpath_tests::xtask::xtask;
use serde_json::Value;

/// Facts that the tests need.
pub(crate) struct Lab {
    /// Kubeconfigs by user.
    pub(crate) kubeconfigs: BTreeMap<String, PathBuf>,
    /// Home of the kubectls, for their caches.
    pub(crate) home: PathBuf,
    /// kubectls, oldest first.
    pub(crate) kubectls: Vec<(Version, PathBuf)>,
    /// Pids of the daemons, by name, since the latest restart of any of them.
    daemons: Mutex<BTreeMap<String, u32>>,
    /// Log to which the API server writes audit events of requests for sessions.
    pub(crate) audit_log: PathBuf,
    /// Names of the network namespaces of client, master and worker.
    pub(crate) netns: BTreeMap<String, String>,
}

/// Major and minor version of kubectl.
pub(crate) type Version = (u32, u32);

/// Longest time to wait for any condition, even on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition that sends no notification.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The running lab; its facts are read once.
pub(crate) fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(read)
}

/// True if this is the long run.
pub(crate) fn soak() -> bool {
    std::env::var_os("EXECPATH_SOAK").is_some_and(|value| !value.is_empty())
}

/// Polls until `look` returns a value; panics after [`TIMEOUT`].
pub(crate) fn wait_until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    let found = wait(look);
    assert!(found.is_some(), "no result after {TIMEOUT:?}: {what}");
    found.expect("checked above")
}

/// Polls until `look` returns a value; returns `None` after [`TIMEOUT`].
pub(crate) fn wait<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + TIMEOUT;
    loop {
        let late = Instant::now() > end;
        let found = look();
        if found.is_some() || late {
            return found;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn env() -> Value {
    let output = xtask(&["lab", "env"]).output().expect("cargo runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the lab is not up: cargo xtask lab up\n{stderr}");
    serde_json::from_slice(&output.stdout).expect("`lab env` prints JSON")
}

/// Pids of the daemons; all of them must be running.
fn daemons(env: &Value) -> BTreeMap<String, u32> {
    let daemons = env["daemons"].as_object().expect("an object of `lab env`").iter().map(|(name, daemon)| {
        assert!(daemon["running"] == true, "{name} of the lab has ended: cargo xtask lab start {name}");
        (name.clone(), daemon["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid"))
    });
    daemons.collect()
}

fn read() -> Lab {
    let env = env();
    let object = |name: &str| env[name].as_object().expect("an object of `lab env`").clone();
    let text = |value: &Value| value.as_str().expect("a text of `lab env`").to_owned();
    let mut kubectls: Vec<(Version, PathBuf)> =
        object("kubectl_by_version").iter().map(|(version, path)| (parse(version), text(path).into())).collect();
    kubectls.sort();
    Lab {
        kubeconfigs: object("kubeconfigs").iter().map(|(user, path)| (user.clone(), text(path).into())).collect(),
        home: text(&env["kubectl_home"]).into(),
        kubectls,
        daemons: Mutex::new(daemons(&env)),
        audit_log: text(&env["audit_log"]).into(),
        netns: object("hosts").iter().map(|(host, facts)| (host.clone(), text(&facts["netns"]))).collect(),
    }
}

fn parse(version: &str) -> Version {
    let (major, minor) = version.split_once('.').expect("a version");
    (major.parse().expect("a number"), minor.parse().expect("a number"))
}

impl Lab {
    pub(crate) fn oldest(&self) -> Version {
        self.kubectls.first().expect("a kubectl").0
    }

    pub(crate) fn newest(&self) -> Version {
        self.kubectls.last().expect("a kubectl").0
    }

    pub(crate) fn kubectl(&self, version: Version) -> &PathBuf {
        let found = self.kubectls.iter().find(|(known, _)| *known == version);
        &found.expect("a kubectl of that version").1
    }

    pub(crate) fn daemon(&self, name: &str) -> u32 {
        let daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        *daemons.get(name).expect("a daemon of the lab")
    }

    /// Reads the daemons' pids again, after one of them was restarted.
    pub(crate) fn daemons_changed(&self) {
        *self.daemons.lock().unwrap_or_else(PoisonError::into_inner) = daemons(&env());
    }
}

/// A command on one of the lab's hosts. `nsenter` execs the program, so the child's pid is the program's own.
pub(crate) fn on(host: &str, program: impl AsRef<OsStr>) -> Command {
    let netns = lab().netns.get(host).expect("a host of the lab");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{netns}")).arg("--").arg(program);
    command
}

/// Runs a command and returns its stdout; panics if the command fails.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}
