//! kubectl processes of this host: how they are recognized, and which connections to API servers they keep.

use super::{State, dials::Cause, pairing::PairResult, sockets::SocketIdx};
use crate::correlate::limits::MAX_HOPS;
use crate::model::{
    BootTime, Confidence, Hop, Kind, KubectlCall, ProcessInfo, RawText, Role, Session, TaskKey, parse_kubectl,
};

impl State {
    /// Open connections of a process to API servers. Before the exec, kubectl requests the pod on another
    /// connection. Nothing distinguishes the two.
    pub(in crate::correlate) fn open_calls(&self, task: TaskKey) -> impl Iterator<Item = SocketIdx> + '_ {
        let is_open = |idx: &SocketIdx| self.sockets.get(*idx).is_some_and(|socket| socket.closed.is_none());
        self.calls.get(&task).into_iter().flatten().copied().filter(is_open)
    }

    /// Adds a connection of a process to an API server. A full list drops closed connections first. Only
    /// connections of a kubectl show what it requested, so only their refusal is a loss.
    pub(in crate::correlate) fn note_call(&mut self, task: TaskKey, idx: SocketIdx) {
        let calls = self.calls.entry(task).or_default();
        if calls.contains(&idx) {
            return;
        }
        if calls.len() >= self.caps.calls {
            calls.retain(|idx| self.sockets.get(*idx).is_some_and(|socket| socket.closed.is_none()));
        }
        if calls.len() < self.caps.calls {
            calls.push(idx);
        } else if self.processes.get(task).is_some_and(|process| self.kubectl(task, &process.info).is_some()) {
            self.refused.add("calls-full", 1);
        }
    }

    /// Forgets the connections of processes that are gone.
    pub(in crate::correlate) fn forget_calls(&mut self) {
        let processes = &self.processes;
        self.calls.retain(|task, _| processes.get(*task).is_some());
    }

    /// Parsed kubectl command line of a process, if it is a kubectl: by its name, or by a connection to an API
    /// server with the arguments of a kubectl that leads into a pod. The file may have any name. Other clients
    /// built with client-go (k9s, helm) have other arguments.
    pub(in crate::correlate) fn kubectl<'a>(&self, task: TaskKey, client: &'a ProcessInfo) -> Option<KubectlCall<'a>> {
        // Parse no arguments of daemons: they are long, and every rebuild of a session asks for them.
        let is_kubectl = is_kubectl(client);
        if !is_kubectl && !self.calls.contains_key(&task) {
            return None;
        }
        let call = parse_kubectl(&client.argv)?;
        let leads_into_a_pod = Kind::kept_open(call.word).is_some() && (call.pod.is_some() || !call.command.is_empty());
        let acts_like_one = call.understood && leads_into_a_pod;
        (is_kubectl || acts_like_one).then_some(call)
    }

    /// True if a kubectl that was observed since its start has no connection: it waits for a credential plugin, for a name
    /// server, or for a person.
    pub(in crate::correlate) fn has_not_connected(&self, task: TaskKey) -> bool {
        let is_observed = self.watched.contains(&task) && !self.losses.since(BootTime(task.start_ns()));
        is_observed
            && self.dials.of(Cause::Own(task)).is_empty()
            && !self.sockets.iter().any(|(_, socket)| socket.owner == Some(task))
    }

    /// True if a kubectl ended and is known to have dialled nothing: its credential plugin failed, or the API server's name
    /// was not resolved. A wrapper around another kubectl dials nothing, either.
    pub(in crate::correlate) fn ended_unconnected(&self, task: TaskKey) -> bool {
        let has_ended = self.processes.get(task).is_some_and(|process| process.exit.is_some());
        let is_inner = |inner: &ProcessInfo| inner.parent == Some(task) && is_kubectl(inner);
        has_ended
            && self.reports_dials.contains(&task.host)
            && self.processes.is_go(task)
            && self.has_not_connected(task)
            && !self.processes.iter().any(|(_, process)| is_inner(&process.info))
    }

    /// Kind of session that the client's arguments name, if it is a kubectl with a command that keeps a
    /// connection open.
    pub(in crate::correlate) fn kind_by_kubectl(&self, client: &Hop) -> Option<Kind> {
        Kind::kept_open(self.kubectl(client.task, &client.process)?.word)
    }

    /// True if this `kubectl exec` passes its input on. `None` for other commands, and if the arguments are not
    /// conclusive.
    pub(in crate::correlate) fn kubectl_stdin(&self, client: &Hop) -> Option<bool> {
        let call = self.kubectl(client.task, &client.process)?;
        let is_whole = !client.process.argv_truncated || !call.command.is_empty();
        (call.word == "exec" && call.understood && (call.stdin || is_whole)).then_some(call.stdin)
    }

    /// Kind of session that the kubectl at the far end of this stream asks for; `None` unless every hop up to it is known
    /// for certain. Ended connections count, as long as they are remembered.
    pub(in crate::correlate) fn kubectl_behind(&self, stream: SocketIdx) -> Option<Kind> {
        let mut accepted = stream;
        for _ in 0..MAX_HOPS {
            let near = self.sockets.get(accepted)?.peer?;
            let task = self.sockets.get(near)?.owner?;
            match self.inbound_of(near) {
                PairResult::Paired(pair) if pair.confidence == Confidence::Exact => accepted = pair.inbound,
                PairResult::Paired(_) | PairResult::Ambiguous => return None,
                PairResult::Unknown => {
                    return Kind::kept_open(self.kubectl(task, &self.processes.get(task)?.info)?.word);
                }
            }
        }
        None
    }

    /// The kubectl of a session, if it runs on a host of this trace. Its end is still to come; other clients serve many
    /// sessions.
    pub(in crate::correlate) fn running_kubectl(&self, session: &Session) -> Option<TaskKey> {
        let client = session.hops.first().filter(|hop| hop.role == Role::Client && hop.exit.is_none())?;
        let is_running =
            self.processes.get(client.task).is_some_and(|process| process.exit.is_none() && process.gone.is_none());
        let is_kubectl = is_kubectl(&client.process) || self.kind_by_kubectl(client).is_some();
        (is_running && is_kubectl).then_some(client.task)
    }

    /// True if the process is a kubectl with another command.
    pub(in crate::correlate) fn is_request(&self, task: TaskKey) -> bool {
        let process = self.processes.get(task);
        let call = process.and_then(|process| self.kubectl(task, &process.info));
        call.is_some_and(|call| Kind::kept_open(call.word).is_none())
    }
}

/// True for kubectl by name, with or without a version (`kubectl.1.33`). A plug-in (`kubectl-name`) is another
/// program.
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
    use crate::model::{Endpoints, HostFacts, Pairing};

    fn process(line: &str) -> ProcessInfo {
        ProcessInfo { argv: line.split_whitespace().map(RawText::from).collect(), ..ProcessInfo::default() }
    }

    #[test]
    fn kubectl_name_may_contain_a_version() {
        for name in ["kubectl", "/usr/bin/kubectl", "kubectl.1.33", "kubectl-1.33.2", "kubectl-v1.33", "/x/kubectl1.20"]
        {
            assert!(is_kubectl(&process(name)), "{name}");
        }
        for name in ["kubectl-ns", "kubectl_complete-ns", "kubectlx", "kube", "k9s", "", "kubectl-view-secret"] {
            assert!(!is_kubectl(&process(name)), "{name}");
        }
    }

    #[test]
    fn arguments_and_connection_reveal_renamed_kubectl() {
        let endpoints = Endpoints::new(None, None, None);
        let mut state = State::new(&HostFacts::default(), endpoints, Pairing::default());
        let task = TaskKey::from_ticks(50, 1);
        let word = |state: &State, line: &str| {
            let client = process(line);
            state.kubectl(task, &client).map(|call| call.word.to_owned())
        };
        let exec = "k exec -it web -- sh";
        assert_eq!(word(&state, exec), None, "no connection to an API server");
        state.calls.insert(task, Vec::new());
        assert_eq!(word(&state, exec).as_deref(), Some("exec"));
        assert_eq!(word(&state, "kubectl get pods").as_deref(), Some("get"));
        for other in ["k9s -n web", "helm get values x", "k9s exec", "docker -H x exec web sh", "flux logs --kind=X"] {
            assert_eq!(word(&state, other), None, "{other}");
        }
    }
}
