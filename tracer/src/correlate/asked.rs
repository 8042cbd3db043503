//! What a kubectl of this host asked for, as long as nothing else shows it: an API server that lets it wait, a kubelet that is
//! not reached, an API server on another host; and `kubectl logs`, whose bytes ride a connection that others share.

use super::{
    Correlator, Open,
    anchor_id::AnchorId,
    execs::What,
    limits::{ASKED_AFTER, ASKED_AGAIN, MAX_CALLS, SNAPSHOT_TAKEN_IN},
    sockets::SocketNo,
    world::{Part, World},
};
use crate::model::{BootTime, Kind, ProcessInfo, RawText, Role, Session, SocketInfo, SocketRole, TaskKey};

impl Correlator {
    /// A connection to an API server: if a kubectl made it that keeps it, it may be all that is seen of what was asked for.
    pub(super) fn perhaps_call(&mut self, task: TaskKey, no: SocketNo, socket: &SocketInfo) {
        let to_apiserver = socket.tuple.is_some_and(|tuple| self.world.places.is_apiserver_port(tuple.remote.port()));
        if !to_apiserver || socket.role == Some(SocketRole::Accepted) {
            return;
        }
        let calls = self.world.calls.entry(task).or_default();
        if !calls.contains(&no) && calls.len() < MAX_CALLS {
            calls.push(no);
        }
        self.perhaps_asked(task);
    }

    /// A process of which something was learned: if it is such a kubectl, look at it when it would be served.
    pub(super) fn perhaps_asked(&mut self, task: TaskKey) {
        let process = self.world.processes.get(task);
        if self.world.calls.contains_key(&task)
            && !self.asked_for.contains_key(&task)
            && let Some(process) = process
            && let Some(said) = kubectl_word(&process.info)
        {
            if kept_open(said).is_none() {
                self.asking.insert((self.now, task));
                return;
            }
            // One that is older than that is told of by a snapshot, of which the rest is still to come.
            let since = |no| self.world.sockets.get(no).map(|socket| socket.since.plus(SNAPSHOT_TAKEN_IN));
            let told = self.world.open_calls(task).filter_map(since).max();
            self.asking.insert((served_by(task).max(told.unwrap_or_default()), task));
        }
    }

    /// Nothing more will come: those that were put off are looked at again.
    pub(super) fn reconsider_asked(&mut self) {
        self.asking = self.asking.iter().map(|(_, task)| (served_by(*task), *task)).collect();
    }

    /// Nothing shows what that kubectl asked for: its own connection does, then.
    pub(super) fn look_at_asked(&mut self, at: BootTime, task: TaskKey) {
        let is_request = self.world.processes.get(task).is_some_and(|process| is_request(&process.info));
        let gone = self.world.processes.get(task).is_none_or(|process| process.exit.is_some());
        if gone
            || self.served.contains(&task)
            || self.asked_for.contains_key(&task)
            || self.resting.contains_key(&Part::Task(task))
        {
            return;
        }
        // A session whose client is not known yet may be this one.
        let may_be = |open: &Open| lacks_client(&open.session) && !self.is_abandoned(&open.parts);
        if !is_request && self.open.values().any(may_be) {
            self.asking.insert((at.next_after(self.now, ASKED_AGAIN), task));
            return;
        }
        let Some(call) = self.world.open_calls(task).max() else { return };
        let id = AnchorId::kubectl(&self.world.hosts, task);
        let older = self.world.sockets.get(call).is_some_and(|socket| socket.older);
        if let Some(exec) = self.world.exec(task.host, &id, "", at) {
            exec.what = if is_request { What::Request } else { What::Asked };
            exec.preexisting = older;
            exec.leaves_by = Some(call);
            self.asked_for.insert(task, id.clone());
            self.dirty.insert(id);
        }
    }

    /// Whether a session that rests on these had a client whose connection is gone: it is nobody's who waits.
    fn is_abandoned(&self, parts: &[Part]) -> bool {
        let sockets = parts.iter().filter_map(|part| if let Part::Socket(no) = part { Some(*no) } else { None });
        sockets.filter_map(|no| self.world.sockets.get(no)).any(|socket| {
            let here = socket.tuple.is_some_and(|tuple| self.world.sockets.stays_here(tuple));
            socket.role == Some(SocketRole::Accepted) && socket.peer.is_none() && socket.peer_absent && here
        })
    }

    /// A session turned up that shows it.
    pub(super) fn asked_is_shown(&mut self, id: &AnchorId, parts: &[Part]) {
        let shown: Vec<TaskKey> =
            self.asked_for.keys().copied().filter(|task| parts.binary_search(&Part::Task(*task)).is_ok()).collect();
        for task in shown {
            if let Some(asked) = self.asked_for.get(&task).cloned().filter(|asked| asked != id) {
                self.asked_for.remove(&task);
                self.resolve(self.now, &asked, id);
            }
        }
    }
}

impl World {
    /// Open connections of that process to API servers. Before it asks for the exec, kubectl asks for the pod, on another
    /// connection: which of them is which is not seen.
    pub(super) fn open_calls(&self, task: TaskKey) -> impl Iterator<Item = SocketNo> + '_ {
        let is_open = |no: &SocketNo| self.sockets.get(*no).is_some_and(|socket| socket.closed.is_none());
        self.calls.get(&task).into_iter().flatten().copied().filter(is_open)
    }

    /// Forgets the connections of processes that are gone.
    pub(super) fn forget_calls(&mut self) {
        let processes = &self.processes;
        self.calls.retain(|task, _| processes.get(*task).is_some());
    }
}

/// When what that kubectl asked for would be served.
fn served_by(task: TaskKey) -> BootTime {
    BootTime(task.start_ns()).plus(ASKED_AFTER)
}

/// Whether somebody must stand before its first hop, who is not known and not elsewhere.
fn lacks_client(session: &Session) -> bool {
    let elsewhere = session.beyond.iter().any(|(side, _)| *side == "client");
    let headless = session.hops.first().is_some_and(|hop| match hop.role {
        Role::Proxy | Role::ApiServer | Role::Kubelet | Role::Runtime => true,
        Role::Client | Role::Etcd | Role::Shim | Role::Runc | Role::Process => false,
    });
    // Its client is gone, and everything else is known of it.
    let is_left = session.exec_id.is_some() && session.gaps.is_empty();
    headless && !elsewhere && session.kind.is_of_people() && !is_left
}

/// Options of kubectl that stand before its command and take a word after them (staging/src/k8s.io/cli-runtime,
/// pkg/genericclioptions/config_flags.go).
const TAKES_A_WORD: &[&str] = &[
    "-n",
    "--namespace",
    "-s",
    "--server",
    "-v",
    "--v",
    "--as",
    "--as-group",
    "--as-uid",
    "--cache-dir",
    "--certificate-authority",
    "--client-certificate",
    "--client-key",
    "--cluster",
    "--context",
    "--kubeconfig",
    "--password",
    "--profile",
    "--profile-output",
    "--request-timeout",
    "--tls-server-name",
    "--token",
    "--user",
    "--username",
];

/// What kubectl was told to do, where that keeps a connection open.
pub(super) fn kubectl_says(client: &ProcessInfo) -> Option<Kind> {
    kept_open(kubectl_word(client)?)
}

/// Whether that is a kubectl that was told to do something else.
fn is_request(client: &ProcessInfo) -> bool {
    kubectl_word(client).is_some_and(|word| kept_open(word).is_none())
}

fn kept_open(word: &str) -> Option<Kind> {
    match word {
        "exec" => Some(Kind::Exec),
        "attach" | "run" => Some(Kind::Attach),
        "debug" => Some(Kind::Debug),
        "cp" => Some(Kind::Cp),
        "port-forward" => Some(Kind::PortForward),
        "logs" => Some(Kind::Logs),
        _ => None,
    }
}

/// Whether that is kubectl, by its arguments or its name.
pub(super) fn is_kubectl(client: &ProcessInfo) -> bool {
    let program = client.argv.first().and_then(RawText::as_str).and_then(|program| program.rsplit('/').next());
    program == Some("kubectl") || client.comm.as_bytes() == b"kubectl"
}

/// kubectl's command.
fn kubectl_word(client: &ProcessInfo) -> Option<&str> {
    let mut words = client.argv.iter().filter_map(RawText::as_str);
    words.next().filter(|_| is_kubectl(client))?;
    loop {
        let word = words.next()?;
        if TAKES_A_WORD.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_was_told_stands_after_its_options() {
        let says = |line: &str| {
            let argv: Vec<RawText> = line.split_whitespace().map(RawText::from).collect();
            kubectl_says(&ProcessInfo { argv, ..ProcessInfo::default() })
        };
        assert_eq!(says("/usr/bin/kubectl -n exec --context=a cp x:/y z"), Some(Kind::Cp));
        assert_eq!(says("kubectl --token attach -v=9 exec web -- cp a b"), Some(Kind::Exec));
        assert_eq!(says("kubectl port-forward web 80"), Some(Kind::PortForward));
        assert_eq!(says("kubectl logs -f web"), Some(Kind::Logs));
        assert_eq!(says("kubectl get pods"), None);
        assert_eq!(says("sh exec"), None);
        assert_eq!(says("kubectl -n"), None);
    }
}
