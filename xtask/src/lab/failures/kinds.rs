//! The kinds of failures: how each is made, and what must be reported.

use anyhow::Result;
use serde_json::json;

use super::guards::{Filter, NoKubelet, Pod, Prepared, Relay, kubeconfig_of, stream_port};
use crate::lab::network::Host;
use crate::lab::{RunningLab, pods};
use crate::tools::run;

/// A kind of failure.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Most clients at the same time.
    pub(super) at_once: usize,
    pub(super) prepare: fn(&RunningLab) -> Result<Prepared>,
    pub(super) client: Client,
    pub(super) expected: Expected,
}

/// The client, and how its attempt ends.
#[derive(Clone, Copy)]
pub(super) enum Client {
    /// Ends by itself. The token follows its arguments.
    Asks(&'static [&'static str]),
    /// The same, by the oldest kubectl.
    OldAsks(&'static [&'static str]),
    /// Its session in the container `web` of this pod is open until this happens.
    Holds(&'static str, Act),
    /// Its command, a shell, waits until this happens. The token follows the arguments.
    Waits(&'static [&'static str], fn(&RunningLab) -> Result<Prepared>),
    /// A port-forward, and a program that connects through it.
    Forwards,
}

/// End of an open session.
#[derive(Clone, Copy)]
pub(super) enum Act {
    KillCommand,
    KillClient,
    /// Once, for all sessions together.
    ForAll(fn(&RunningLab) -> Result<Prepared>),
}

/// The end of kubectl itself, and the report that it requires.
pub(super) struct Expected {
    /// kubectl's exit code.
    pub(super) exit: Option<i32>,
    /// Words of its message.
    pub(super) says: &'static str,
    pub(super) reached: &'static str,
    pub(super) failed_at: Option<&'static str>,
    pub(super) errno: Option<u32>,
    pub(super) fault: Option<&'static str>,
    /// Sender of the signal that ended the command.
    pub(super) killed_by: Option<&'static str>,
}

/// As many as a small machine starts at once without timing out.
const FEW: usize = 4;

impl Kind {
    /// A client that ends by itself with exit code 1.
    const fn asks(
        name: &'static str,
        arguments: &'static [&'static str],
        says: &'static str,
        reached: &'static str,
        failed_at: &'static str,
        fault: &'static str,
    ) -> Self {
        let expected = Expected {
            exit: Some(1),
            says,
            reached,
            failed_at: Some(failed_at),
            errno: None,
            fault: Some(fault),
            killed_by: None,
        };
        Self { name, at_once: FEW, prepare: nothing, client: Client::Asks(arguments), expected }
    }

    const fn after(self, prepare: fn(&RunningLab) -> Result<Prepared>) -> Self {
        Self { prepare, ..self }
    }

    const fn at_once(self, at_once: usize) -> Self {
        Self { at_once, ..self }
    }

    const fn errno(self, errno: u32) -> Self {
        Self { expected: Expected { errno: Some(errno), ..self.expected }, ..self }
    }

    const fn any_exit(self) -> Self {
        Self { expected: Expected { exit: None, ..self.expected }, ..self }
    }

    const fn no_fault(self) -> Self {
        Self { expected: Expected { fault: None, ..self.expected }, ..self }
    }

    /// A session that reaches its process and ends with a failure.
    const fn cut(
        name: &'static str,
        client: Client,
        exit: Option<i32>,
        reached: &'static str,
        fault: Option<&'static str>,
        killed_by: Option<&'static str>,
    ) -> Self {
        let expected = Expected { exit, says: "", reached, failed_at: None, errno: None, fault, killed_by };
        Self { name, at_once: FEW, prepare: nothing, client, expected }
    }
}

fn nothing(_lab: &RunningLab) -> Result<Prepared> {
    Ok(Prepared::default())
}

/// All kinds.
pub(super) fn all() -> Vec<Kind> {
    let kinds = [before_api_server(), refused_early(), on_the_node(), killed()];
    kinds.into_iter().flatten().collect()
}

/// A shell that waits for ever, and starts no child.
pub(super) const WAIT: &[&str] =
    &["exec", "web", "-c", "web", "--", "sh", "-c", "mkfifo /tmp/never; read x <>/tmp/never"];

const TRUE: &[&str] = &["exec", "web", "-c", "web", "--", "true"];

/// The API server is not reached.
fn before_api_server() -> Vec<Kind> {
    let of = |name, says| Kind::asks(name, TRUE, says, "client-started", "connected", "F45");
    vec![
        of("name of API server not resolved", "no such host|lookup ")
            .after(|_| Ok(Prepared::options(&["--server=https://api.lab.invalid:6443"]))),
        // Only the kubelet listens on the worker.
        of("address of API server refuses", "refused")
            .after(|_| Ok(Prepared::options(&["--server=https://192.168.205.11:6443"])))
            .errno(111),
        of("credential plugin fails", "getting credentials").after(|lab| {
            let plugin = json!({
                "apiVersion": "client.authentication.k8s.io/v1beta1", "command": "false", "interactiveMode": "Never",
            });
            kubeconfig_of(lab, json!({ "exec": plugin }))
        }),
    ]
}

/// The API server, or kubectl after its answer, refuses.
fn refused_early() -> Vec<Kind> {
    let of = |name, arguments, says| Kind::asks(name, arguments, says, "apiserver-accepted", "kubelet-dialled", "F36");
    vec![
        // kubectl ends the handshake: no message says so, and no cause is named.
        of("certificate of API server not trusted", TRUE, "x509")
            .after(|_| Ok(Prepared::options(&["--tls-server-name=api.lab.invalid"])))
            .no_fault(),
        of("not authenticated", TRUE, "logged in|Unauthorized|unauthorized|provide credentials")
            .after(|lab| kubeconfig_of(lab, json!({"token": "none"}))),
        of("forbidden", TRUE, "forbidden").after(|_| Ok(Prepared::options(&["--as=nobody"]))),
        of("no such namespace", &["-n", "nosuch", "exec", "web", "--", "true"], "not found"),
        of("no such pod", &["exec", "nosuch", "--", "true"], "not found"),
        of("no such container", &["exec", "web", "-c", "nosuch", "--", "true"], "nosuch"),
        of("completed pod", &["exec", "completed", "--", "true"], "completed pod")
            .after(|_| Pod::completed("completed").map(Prepared::guarded)),
    ]
}

/// The kubelet, its stream or the command cannot be reached.
fn on_the_node() -> Vec<Kind> {
    let kubelet = |name, says| Kind::asks(name, TRUE, says, "apiserver-accepted", "kubelet-dialled", "F01");
    let container = |name, arguments| {
        Kind::asks(name, arguments, "container not found", "kubelet-answered", "stream-dialled", "F37")
    };
    // The kernel refuses the call itself at a filter of its own host: no error is left at the socket.
    let stream = |name, says| Kind::asks(name, TRUE, says, "kubelet-accepted", "stream-dialled", "F38");
    // With docker, kubectl prints and exits with the code of the OCI runtime alone.
    let command =
        |name, arguments, says| Kind::asks(name, arguments, says, "runc-started", "executed", "F41").any_exit();
    vec![
        kubelet("kubelet does not run", "refused").after(|_| NoKubelet::stop().map(Prepared::guarded)).errno(111),
        kubelet("kubelet's port drops", "timeout")
            .after(|_| Filter::new(Host::Master, "OUTPUT -p tcp --dport 10250 --syn -j DROP").map(Prepared::guarded))
            .at_once(usize::MAX),
        container("container has ended", &["exec", "ended", "-c", "over", "--", "true"])
            .after(|_| Pod::half_ended("ended").map(Prepared::guarded)),
        container("container crashes again and again", &["exec", "crashing", "--", "true"])
            .after(|_| Pod::crashing("crashing").map(Prepared::guarded)),
        stream("stream port refuses", "refused").after(|lab| filtered_stream(lab, "REJECT")),
        // The oldest kubectl tries once, and newer ones twice.
        Kind {
            client: Client::OldAsks(TRUE),
            ..stream("stream port drops", "timed out")
                .after(|lab| filtered_stream(lab, "DROP"))
                .at_once(usize::MAX)
                .errno(110)
        },
        command(
            "command not found",
            &["exec", "web", "-c", "web", "--", "nosuchcmd"],
            "executable file not found|exit code 126",
        ),
        command("no such file", &["exec", "web", "-c", "web", "--", "/no/such/command"], "no such file|exit code 126"),
        command(
            "command not executable",
            &["exec", "web", "-c", "web", "--", "/etc/passwd"],
            "permission denied|exit code 126",
        ),
        command(
            "command of another format",
            &["exec", "web", "-c", "web", "--", "/tmp/no-format"],
            "exec format error",
        )
        .after(|lab| file_in_web(lab, "/tmp/no-format", "no program"))
        .errno(8),
        command("interpreter not found", &["exec", "web", "-c", "web", "--", "/tmp/no-interpreter"], "no such file")
            .after(|lab| file_in_web(lab, "/tmp/no-interpreter", "#!/no/such/interpreter"))
            .errno(2),
    ]
}

/// The command is killed, or its session is cut.
fn killed() -> Vec<Kind> {
    const TAIL: &[&str] = &["exec", "limited", "-c", "web", "--", "sh", "-c", "exec tail /dev/zero"];
    let delete = |lab: &RunningLab| {
        run(pods::kubectl(&lab.state, &lab.facts)?.args(["delete", "pod", "deleted", "--now", "--wait=false"]))?;
        Ok(Prepared::default())
    };
    let restart = |_: &RunningLab| NoKubelet::stop().map(Prepared::guarded);
    vec![
        // At the limit, the kernel may as well kill the command of another session.
        Kind::cut("out of memory", Client::Asks(TAIL), Some(137), "ended", Some("F42"), Some("out-of-memory"))
            .after(|_| Pod::half_ended("limited").map(Prepared::guarded))
            .at_once(1),
        Kind::cut(
            "killed by a process",
            Client::Holds("web", Act::KillCommand),
            Some(137),
            "ended",
            Some("F42"),
            Some("process"),
        ),
        Kind::cut(
            "pod deleted",
            Client::Holds("deleted", Act::ForAll(delete)),
            Some(137),
            "ended",
            Some("F42"),
            Some("kernel"),
        )
        .after(|_| Pod::running("deleted").map(Prepared::guarded)),
        Kind::cut("kubelet restarts", Client::Waits(WAIT, restart), None, "running", Some("F30"), None),
        Kind::cut(
            "kubelet restarts under a shell",
            Client::Holds("web", Act::ForAll(restart)),
            None,
            "ended",
            Some("F30"),
            None,
        ),
        Kind::cut("client killed", Client::Holds("web", Act::KillClient), None, "ended", None, None),
        Kind::cut("idle connection closed by a relay", Client::OldAsks(WAIT), Some(0), "running", Some("F44"), None)
            .after(Relay::prepare)
            .at_once(usize::MAX),
        // The runtime's dial is known to be this stream's only while it serves no other (docs/attempts.md).
        Kind::cut("no listener at forwarded port", Client::Forwards, None, "stream-dialled", Some("F39"), None)
            .at_once(1),
    ]
}

fn filtered_stream(lab: &RunningLab, target: &str) -> Result<Prepared> {
    let rule = format!("OUTPUT -o lo -p tcp --dport {} -j {target}", stream_port(lab)?);
    Filter::new(Host::Worker, &rule).map(Prepared::guarded)
}

/// Writes an executable file into the container `web`.
fn file_in_web(lab: &RunningLab, path: &str, text: &str) -> Result<Prepared> {
    let script = format!("echo '{text}' > {path}; chmod +x {path}");
    run(lab.kubectl(None)?.args(["exec", "web", "-c", "web", "--", "sh", "-c", &script]))?;
    Ok(Prepared::default())
}
