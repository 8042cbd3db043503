//! What a kubectl of this host asked for, as long as nothing else shows it: an API server that lets it wait, a kubelet that is
//! not reached, an API server on another host; and `kubectl logs`, whose bytes ride a connection that others share.

use crate::correlate::{
    Correlator, Open,
    limits::{ASKED_AFTER, ASKED_AGAIN, SNAPSHOT_TAKEN_IN},
    state::{Part, World, anchor_id::AnchorId, anchors::What, sockets::SocketNo},
};
use crate::model::{
    BootTime, GapCode, Hop, Kind, KubectlCall, ProcessInfo, RawText, Role, Session, SocketInfo, SocketRole, TaskKey,
    parse_kubectl,
};

impl Correlator {
    /// A connection to an API server: if a kubectl made it that keeps it, it may be all that is seen of what was asked for.
    pub(in crate::correlate) fn perhaps_call(&mut self, task: TaskKey, no: SocketNo, socket: &SocketInfo) {
        let to_apiserver = socket.tuple.is_some_and(|tuple| self.world.places.is_apiserver_port(tuple.remote.port()));
        if !to_apiserver || socket.role == Some(SocketRole::Accepted) {
            return;
        }
        self.world.note_call(task, no);
        self.perhaps_asked(task);
    }

    /// A process of which something was learned: if it is such a kubectl, look at it when it would be served.
    pub(in crate::correlate) fn perhaps_asked(&mut self, task: TaskKey) {
        let process = self.world.processes.get(task);
        if self.world.calls.contains_key(&task)
            && !self.asked_for.contains_key(&task)
            && let Some(process) = process
            && let Some(call) = self.world.kubectl(task, &process.info)
        {
            if kept_open(call.word).is_none() {
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
    pub(in crate::correlate) fn reconsider_asked(&mut self) {
        self.asking = self.asking.iter().map(|(_, task)| (served_by(*task), *task)).collect();
    }

    /// Nothing shows what that kubectl asked for: its own connection does, then.
    pub(in crate::correlate) fn look_at_asked(&mut self, at: BootTime, task: TaskKey) {
        let is_request = self.world.is_request(task);
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
    pub(in crate::correlate) fn asked_is_shown(&mut self, id: &AnchorId, parts: &[Part]) {
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
    pub(in crate::correlate) fn open_calls(&self, task: TaskKey) -> impl Iterator<Item = SocketNo> + '_ {
        let is_open = |no: &SocketNo| self.sockets.get(*no).is_some_and(|socket| socket.closed.is_none());
        self.calls.get(&task).into_iter().flatten().copied().filter(is_open)
    }

    /// Keeps a connection of that process to an API server. Where there is no room, closed ones go first. Only a kubectl's
    /// connections show what was asked for, so only a kubectl's that is refused is a loss.
    fn note_call(&mut self, task: TaskKey, no: SocketNo) {
        let calls = self.calls.entry(task).or_default();
        if calls.contains(&no) {
            return;
        }
        if calls.len() >= self.caps.calls {
            calls.retain(|no| self.sockets.get(*no).is_some_and(|socket| socket.closed.is_none()));
        }
        if calls.len() < self.caps.calls {
            calls.push(no);
        } else if self.processes.get(task).is_some_and(|process| self.kubectl(task, &process.info).is_some()) {
            self.refused.add("calls-full", 1);
        }
    }

    /// Forgets the connections of processes that are gone.
    pub(in crate::correlate) fn forget_calls(&mut self) {
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
    let may_be_probe = session.preexisting && session.gaps.iter().all(|gap| gap.code == GapCode::KindUnknown);
    let is_left = session.exec_id.is_some() && (session.gaps.is_empty() || may_be_probe);
    headless && !elsewhere && session.kind.is_of_people() && !is_left
}

impl World {
    /// What that process asks for, if it is a kubectl: by its name, or because it is connected to an API server and has the arguments of
    /// a kubectl that leads into a pod. The file may have any name; others that are made with client-go (k9s, helm) have other arguments.
    pub(in crate::correlate) fn kubectl<'a>(&self, task: TaskKey, client: &'a ProcessInfo) -> Option<KubectlCall<'a>> {
        let call = parse_kubectl(&client.argv)?;
        let leads_into_a_pod = kept_open(call.word).is_some() && (call.pod.is_some() || !call.command.is_empty());
        let acts_like_one = self.calls.contains_key(&task) && call.understood && leads_into_a_pod;
        (is_kubectl(client) || acts_like_one).then_some(call)
    }

    /// What that client was told to do, where it is a kubectl and that keeps a connection open.
    pub(in crate::correlate) fn kubectl_says(&self, client: &Hop) -> Option<Kind> {
        kept_open(self.kubectl(client.task, &client.process)?.word)
    }

    /// Whether that `kubectl exec` passes its input on. `None` where that is another command, or the arguments do not say.
    pub(in crate::correlate) fn kubectl_stdin(&self, client: &Hop) -> Option<bool> {
        let call = self.kubectl(client.task, &client.process)?;
        let is_whole = !client.process.argv_truncated || !call.command.is_empty();
        (call.word == "exec" && call.understood && (call.stdin || is_whole)).then_some(call.stdin)
    }

    /// Whether that is a kubectl that was told to do something else.
    fn is_request(&self, task: TaskKey) -> bool {
        let process = self.processes.get(task);
        let call = process.and_then(|process| self.kubectl(task, &process.info));
        call.is_some_and(|call| kept_open(call.word).is_none())
    }
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

/// Whether that is kubectl by its name, with or without a version (`kubectl.1.33`). A plug-in (`kubectl-name`) is another program.
pub(in crate::correlate) fn is_kubectl(client: &ProcessInfo) -> bool {
    let program = client.argv.first().and_then(RawText::as_str).and_then(|program| program.rsplit('/').next());
    let is_name = |name: &str| {
        let version = name.strip_prefix("kubectl").map(|rest| rest.trim_start_matches(['.', '-', '_', 'v']));
        version.is_some_and(|version| name == "kubectl" || version.starts_with(|first: char| first.is_ascii_digit()))
    };
    program.is_some_and(is_name) || client.comm.as_str().is_some_and(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{correlate::Options, model::HostFacts};

    fn process(line: &str) -> ProcessInfo {
        ProcessInfo { argv: line.split_whitespace().map(RawText::from).collect(), ..ProcessInfo::default() }
    }

    #[test]
    fn a_version_is_a_part_of_kubectls_name() {
        for name in ["kubectl", "/usr/bin/kubectl", "kubectl.1.33", "kubectl-1.33.2", "kubectl-v1.33", "/x/kubectl1.20"]
        {
            assert!(is_kubectl(&process(name)), "{name}");
        }
        for name in ["kubectl-ns", "kubectl_complete-ns", "kubectlx", "kube", "k9s", "", "kubectl-view-secret"] {
            assert!(!is_kubectl(&process(name)), "{name}");
        }
    }

    #[test]
    fn a_renamed_kubectl_is_known_by_arguments_and_connection() {
        let mut correlator = Correlator::new(&HostFacts::default(), &Options::default());
        let task = TaskKey::from_ticks(50, 1);
        let word = |world: &World, line: &str| {
            let client = process(line);
            world.kubectl(task, &client).map(|call| call.word.to_owned())
        };
        let exec = "k exec -it web -- sh";
        assert_eq!(word(&correlator.world, exec), None, "connected to nothing");
        correlator.world.calls.insert(task, Vec::new());
        assert_eq!(word(&correlator.world, exec).as_deref(), Some("exec"));
        assert_eq!(word(&correlator.world, "kubectl get pods").as_deref(), Some("get"));
        for other in ["k9s -n web", "helm get values x", "k9s exec", "docker -H x exec web sh", "flux logs --kind=X"] {
            assert_eq!(word(&correlator.world, other), None, "{other}");
        }
    }
}
