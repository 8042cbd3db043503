//! The terms of the explanations with their definitions. `docs/glossary.md` is generated from this table.

/// A term that needs a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Preferred spelling.
    pub name: &'static str,
    /// Other spellings and plurals.
    pub also: &'static [&'static str],
    /// Definition, for the glossary.
    pub means: &'static str,
}

const fn term(name: &'static str, also: &'static [&'static str], means: &'static str) -> Term {
    Term { name, also, means }
}

/// Every term, in alphabetical order regardless of case.
pub const TERMS: &[Term] = &[
    term(
        "admission",
        &[],
        "The API server's last check of a request: built-in rules and webhooks may change or refuse it.",
    ),
    term("API", &[], "What a program offers to other programs: calls, and what they answer."),
    term(
        "API server",
        &["kube-apiserver", "apiserver", "API servers"],
        "The program through which everything in a Kubernetes cluster goes: it checks requests, keeps objects in etcd, and passes streams on to kubelets. It listens on port 6443 as a rule.",
    ),
    term("attach", &["kubectl attach"], "To be connected to the input and output of a container's own first process."),
    term(
        "audit log",
        &["--audit-log"],
        "A file in which the API server notes who asked for what. execpath reads it to name users, where it may.",
    ),
    term("authentication", &[], "Finding out who asks: by a certificate, a token, or another credential."),
    term(
        "certificate",
        &["certificates"],
        "A signed statement of who somebody is, shown when a TLS connection begins.",
    ),
    term(
        "cgroup",
        &[],
        "A group of processes to which the kernel gives limits and for which it counts; each container has one, named by its id.",
    ),
    term(
        "child",
        &["children", "child process", "parents and children"],
        "A process that another one, its parent, has started.",
    ),
    term("client", &[], "Who asks: the program that makes a connection."),
    term("cluster", &["clusters"], "Machines that run Kubernetes together."),
    term("comm", &[], "The short name of a process, at most 15 bytes; a process can change its own."),
    term("conmon-rs", &["conmonrs", "conmon"], "A helper of CRI-O that keeps containers and can serve their streams."),
    term(
        "connection",
        &["connections"],
        "Two sockets that are joined: what goes in at one end comes out at the other.",
    ),
    term(
        "container",
        &["containers"],
        "A process, or several, with a file system, network and limits of their own, set up by a runtime.",
    ),
    term("containerd", &[], "A container runtime; Docker is built on it, and Kubernetes uses it directly by the CRI."),
    term(
        "control plane",
        &[],
        "The machines and programs that run the cluster itself: API server, etcd, scheduler, controllers.",
    ),
    term("credential", &["credentials"], "What shows who one is: a certificate, a token, a password."),
    term(
        "CRI",
        &[],
        "Container Runtime Interface: the calls by which the kubelet asks a runtime for things (gRPC over a unix socket).",
    ),
    term("cri-dockerd", &[], "A program that answers CRI calls and has Docker do the work."),
    term("CRI-O", &["crio"], "A container runtime made for Kubernetes alone."),
    term("docker.sock", &[], "The unix socket at which dockerd offers its API."),
    term("dockerd", &["Docker", "Docker engine"], "The daemon of Docker. It has containerd keep its containers."),
    term("dockershim", &[], "The part of the kubelet that spoke to Docker; gone since Kubernetes 1.24."),
    term("end", &["ends"], "One of the two sockets of a connection."),
    term("exact", &[], "Of a link: an identity proves it. The other grades are strong and weak."),
    term("exec", &["execs", "kubectl exec"], "To run a command in a container that runs already."),
    term(
        "exec id",
        &[],
        "The name that a runtime gives to one exec; it is in the names of its FIFOs and of its pid file.",
    ),
    term(
        "exec probe",
        &["exec probes", "probe"],
        "A command that the kubelet runs in a container now and then, to see whether it is well.",
    ),
    term(
        "ExecSync",
        &[],
        "The CRI call for commands without a stream: it returns output and exit code when the command has ended.",
    ),
    term("execve", &[], "The system call by which a process becomes another program."),
    term("exit code", &["exit codes"], "The number with which a process ends; 0 means that all went well."),
    term(
        "FIFO",
        &["FIFOs"],
        "A pipe with a name in the file system, so that programs that did not start each other can share it.",
    ),
    term("fork", &[], "The system call by which a process makes a child."),
    term(
        "goroutine",
        &["goroutines"],
        "A thread of a Go program, run by Go itself and not by the kernel. Kubernetes' programs serve each stream with goroutines of its own.",
    ),
    term("gRPC", &[], "Calls of procedures over HTTP/2: many of them share one connection."),
    term("guest", &["virtual machine"], "The system inside a virtual machine, with a kernel of its own."),
    term("hook", &["hooks"], "A command that the kubelet runs in a container after its start or before its end."),
    term("HTTP", &[], "The protocol of the web, in which requests are made and answered."),
    term(
        "HTTP upgrade",
        &["upgrade"],
        "A request by which both sides agree to use an HTTP connection for another protocol from then on.",
    ),
    term("HTTPS", &[], "HTTP inside TLS."),
    term(
        "initial sequence number",
        &["initial sequence numbers", "ISN", "ISNs"],
        "The number with which one end of a TCP connection begins to count its bytes. Each end chooses one at random and tells it to the other.",
    ),
    term("inode", &[], "The number by which the kernel knows a file or a socket."),
    term("k3s", &[], "A small Kubernetes in one program."),
    term("kernel", &[], "The core of the operating system: it runs processes and carries their bytes."),
    term(
        "konnectivity",
        &[],
        "A proxy of Kubernetes: agents on the nodes open a tunnel, and the API server reaches kubelets through it.",
    ),
    term("kubeconfig", &[], "The file in which kubectl finds clusters and credentials, `~/.kube/config` as a rule."),
    term("kubectl", &[], "The command line client of Kubernetes."),
    term("kubelet", &["kubelets"], "The agent of Kubernetes on each node. It listens on port 10250 as a rule."),
    term("load balancer", &[], "A proxy that spreads connections over several servers."),
    term("MicroShift", &[], "A small OpenShift in one program."),
    term(
        "namespace",
        &["namespaces", "network namespace"],
        "For the kernel: a part of the system that processes see for themselves, such as the network. For Kubernetes: a folder for names of pods.",
    ),
    term("NAT", &[], "Network address translation: addresses are changed on the way."),
    term("netstat", &[], "A tool that lists connections; `ss` is its successor."),
    term("node", &["nodes"], "A machine of the cluster on which pods run."),
    term(
        "OCI runtime",
        &[],
        "A program that starts containers by the rules of the Open Container Initiative, as runc and crun do.",
    ),
    term("pid", &["ppid"], "The number of a process; ppid is that of its parent."),
    term("pid file", &[], "A file that holds the pid of a process, for others to find."),
    term("pipe", &["pipes"], "A one-way connection between processes of one machine."),
    term("pod", &["pods"], "One container or several that share a network and a life. What Kubernetes puts on nodes."),
    term("pointer", &["pointers"], "A place in memory that says where something else lies in memory."),
    term("port", &["ports"], "The number that tells the connections and servers of one address apart."),
    term(
        "port-forward",
        &["kubectl port-forward", "PortForward", "forwarded port"],
        "To reach a port of a pod through the API server.",
    ),
    term("process", &["processes"], "A running program."),
    term("protocol", &["protocols"], "The rules by which two programs talk."),
    term("proxy", &["proxies"], "A program that passes on what it receives."),
    term(
        "pseudo-terminal",
        &["terminal"],
        "A terminal made of software: what is written to one end, the master, is typed at the other.",
    ),
    term("RBAC", &[], "Role-based access control: the rules that say which user may do what."),
    term(
        "registers",
        &[],
        "The few places in the processor in which a running program keeps what it works with at the moment.",
    ),
    term("runc", &[], "The OCI runtime that most systems use."),
    term(
        "runtime",
        &["runtimes", "container runtime"],
        "The program that keeps a node's containers: containerd, CRI-O, Docker.",
    ),
    term("server", &["servers"], "Who answers: the program that accepts connections."),
    term("session", &["sessions"], "One exec, attach, forwarded port …, from the client to the process."),
    term("shim", &[], "The small program that stays with a container's processes while the runtime may come and go."),
    term("signal", &[], "A short message of the kernel to a process; most signals end it."),
    term(
        "socket",
        &["unix socket", "sockets"],
        "What a process holds to send and receive: one end of a connection. A unix socket is one between processes of a machine, found by a path.",
    ),
    term(
        "SPDY",
        &[],
        "A protocol that carries several streams on one connection; it was made for the web, HTTP/2 came of it, and Kubernetes still uses it.",
    ),
    term("ss", &[], "A tool that lists sockets."),
    term(
        "stdin",
        &["stdout", "stderr"],
        "The three files that a command has when it starts: stdin is its input, stdout its output, stderr what it says of errors.",
    ),
    term(
        "stream",
        &["streams"],
        "Bytes in order, with no end to be foreseen; here: the input and output of a session.",
    ),
    term("strong", &[], "Of a link: signs agree and nothing else fits, but no identity proves it."),
    term("system call", &[], "What a process asks the kernel to do."),
    term("tar", &[], "A program that packs files into one stream of bytes."),
    term("TCP", &[], "The protocol by which connections cross networks."),
    term("thread", &["threads"], "One of several things that a process does at a time, run by the kernel."),
    term("TLS", &[], "Encryption of a connection: who has not the keys sees that bytes pass, and how many."),
    term("token", &[], "A word that stands for a right or for a thing, hard to guess."),
    term("ttrpc", &[], "gRPC made small, for runtimes and their shims."),
    term("tunnel", &[], "A connection that carries the connections of others."),
    term("uid", &[], "The number of a user on a host; 0 is root."),
    term("unix connection", &[], "A connection between two unix sockets."),
    term("URL", &[], "An address with a path, as for a web page."),
    term("weak", &[], "Of a link: only the order in time suggests it."),
    term("webhook", &["webhooks"], "A server that the API server asks before it does something."),
    term("WebSocket", &[], "A protocol of the web for streams in both directions; kubectl uses it since 1.30."),
];

/// The terms in a text, in order of first use.
#[must_use]
pub fn terms_in(text: &str) -> Vec<&'static Term> {
    let mut found: Vec<&Term> = Vec::new();
    for (term, _) in places(text) {
        if !found.contains(&term) {
            found.push(term);
        }
    }
    found
}

/// Every use of a term in a text, as ranges of bytes. Matches whole words, the longest spelling first.
#[must_use]
pub fn places(text: &str) -> Vec<(&'static Term, std::ops::Range<usize>)> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(next) = rest.chars().next() else { break };
        let begins = !text.get(..at).and_then(|before| before.chars().next_back()).is_some_and(is_word);
        let ends = |name: &str| !rest.get(name.len()..).and_then(|after| after.chars().next()).is_some_and(is_word);
        let fits = |name: &&'static str| starts(rest, name) && ends(name);
        let ways = TERMS
            .iter()
            .flat_map(|term| [term.name].into_iter().chain(term.also.iter().copied()).map(move |name| (term, name)));
        let longest = ways.filter(|(_, name)| begins && fits(name)).max_by_key(|(_, name)| name.len());
        match longest {
            Some((term, name)) => {
                found.push((term, at..at + name.len()));
                at += name.len();
            }
            None => at += next.len_utf8(),
        }
    }
    found
}

/// True if a text starts with this name; only the first letter may differ in case.
fn starts(text: &str, name: &str) -> bool {
    let Some(begin) = text.get(..name.len()) else { return false };
    let (mut shown, mut known) = (begin.chars(), name.chars());
    let first =
        shown.next().map(|first| first.to_ascii_lowercase()) == known.next().map(|first| first.to_ascii_lowercase());
    first && shown.as_str() == known.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_stand_in_order_and_once() {
        let names: Vec<String> = TERMS.iter().map(|term| term.name.to_lowercase()).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    #[test]
    fn the_longest_term_counts_at_whole_words() {
        let names = |text| terms_in(text).into_iter().map(|term| term.name).collect::<Vec<_>>();
        assert_eq!(names("The API server asks the kubelets"), ["API server", "kubelet"]);
        assert_eq!(names("an exec id, an exec"), ["exec id", "exec"]);
        assert_eq!(names("spend, across, endless"), <[&str; 0]>::default());
        assert_eq!(names("Processes … é pod"), ["process", "pod"]);
    }
}
