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
    term("API", &[], "The calls that a program offers to other programs."),
    term(
        "API server",
        &["kube-apiserver", "apiserver", "API servers"],
        "The central program of a Kubernetes cluster: it checks requests, keeps objects in etcd, and passes streams \
         on to kubelets. It usually listens on port 6443.",
    ),
    term("attach", &["kubectl attach"], "To connect to the input and output of a container's first process."),
    term(
        "audit log",
        &["--audit-log"],
        "A file in which the API server records each request with its user. execpath reads users from it if \
         permitted.",
    ),
    term("authentication", &[], "Verifying the identity of a user: by a certificate, a token, or another credential."),
    term("certificate", &["certificates"], "A signed proof of identity, presented at the start of a TLS connection."),
    term(
        "cgroup",
        &[],
        "A group of processes with limits and counters in the kernel; each container has one, named by its id.",
    ),
    term(
        "child",
        &["children", "child process", "parents and children"],
        "A process started by another one, its parent.",
    ),
    term("client", &[], "The program that opens a connection and sends requests."),
    term("cluster", &["clusters"], "Machines that run Kubernetes together."),
    term("comm", &[], "The short name of a process, at most 15 bytes; a process can change its own."),
    term(
        "conmon-rs",
        &["conmonrs", "conmon"],
        "A helper of CRI-O that supervises containers and can serve their \
                                                streams.",
    ),
    term("connection", &["connections"], "A pair of connected sockets: bytes sent at one end arrive at the other."),
    term(
        "container",
        &["containers"],
        "One or more processes with a file system, network and limits of their own, set up by a runtime.",
    ),
    term(
        "containerd",
        &[],
        "A container runtime. Docker is built on it, and Kubernetes uses it directly through the \
                             CRI.",
    ),
    term(
        "control plane",
        &[],
        "The machines and programs that run the cluster itself: API server, etcd, scheduler, controllers.",
    ),
    term("credential", &["credentials"], "A proof of identity: a certificate, a token, a password."),
    term("CRI", &[], "Container Runtime Interface: the kubelet's calls to a runtime (gRPC over a unix socket)."),
    term("cri-dockerd", &[], "A program that answers CRI calls and passes the work on to Docker."),
    term("CRI-O", &["crio"], "A container runtime made for Kubernetes alone."),
    term("docker.sock", &[], "The unix socket at which dockerd offers its API."),
    term("dockerd", &["Docker", "Docker engine"], "The daemon of Docker. It leaves containers to containerd."),
    term("dockershim", &[], "The part of the kubelet that spoke to Docker; gone since Kubernetes 1.24."),
    term("end", &["ends"], "One of the two sockets of a connection."),
    term("exact", &[], "Grade of a link: an identity proves it. The other grades are strong and weak."),
    term("exec", &["execs", "kubectl exec"], "To run a command in a running container."),
    term("exec id", &[], "The name that a runtime gives to one exec; the exec's FIFOs and pid file contain it."),
    term(
        "exec probe",
        &["exec probes", "probe"],
        "A command that the kubelet runs in a container periodically, to check the container's health.",
    ),
    term(
        "ExecSync",
        &[],
        "The CRI call for commands without a stream: it returns output and exit code when the command has ended.",
    ),
    term("execve", &[], "The system call that replaces the program of a process."),
    term("exit code", &["exit codes"], "The number that a process returns at its end; 0 means success."),
    term("FIFO", &["FIFOs"], "A pipe with a name in the file system: unrelated programs can share it."),
    term("fork", &[], "The system call that creates a child process."),
    term(
        "goroutine",
        &["goroutines"],
        "A thread of a Go program, scheduled by Go itself and not by the kernel. Kubernetes' programs serve each \
         stream with separate goroutines.",
    ),
    term("gRPC", &[], "Remote calls over HTTP/2: many of them share one connection."),
    term("guest", &["virtual machine"], "The system inside a virtual machine, with a kernel of its own."),
    term("hook", &["hooks"], "A command that the kubelet runs in a container after its start or before its end."),
    term("HTTP", &[], "The request-and-answer protocol of the web."),
    term("HTTP upgrade", &["upgrade"], "A request to continue an HTTP connection with another protocol."),
    term("HTTPS", &[], "HTTP inside TLS."),
    term(
        "initial sequence number",
        &["initial sequence numbers", "ISN", "ISNs"],
        "The number from which one end of a TCP connection counts its bytes. Each end chooses one at random and sends \
         it to the other.",
    ),
    term("inode", &[], "The number of a file or a socket in the kernel."),
    term("k3s", &[], "A small Kubernetes in one program."),
    term("kernel", &[], "The core of the operating system: it runs processes and transports their bytes."),
    term(
        "konnectivity",
        &[],
        "A proxy of Kubernetes: agents on the nodes open a tunnel, and the API server reaches kubelets through it.",
    ),
    term("kubeconfig", &[], "The file with kubectl's clusters and credentials, usually `~/.kube/config`."),
    term("kubectl", &[], "The command line client of Kubernetes."),
    term("kubelet", &["kubelets"], "The agent of Kubernetes on each node. It usually listens on port 10250."),
    term("load balancer", &[], "A proxy that spreads connections over several servers."),
    term("MicroShift", &[], "A small OpenShift in one program."),
    term(
        "namespace",
        &["namespaces", "network namespace"],
        "In the kernel: a separate view of a part of the system, such as the network. In Kubernetes: a folder for the \
         names of pods.",
    ),
    term("NAT", &[], "Network address translation: a router replaces addresses on the way."),
    term("netstat", &[], "A tool that lists connections; `ss` is its successor."),
    term("node", &["nodes"], "A machine of the cluster on which pods run."),
    term(
        "OCI runtime",
        &[],
        "A program that starts containers by the specification of the Open Container Initiative, such as runc and \
         crun.",
    ),
    term("pid", &["ppid"], "The number of a process; ppid is that of its parent."),
    term("pid file", &[], "A file that holds the pid of a process, for others to find."),
    term("pipe", &["pipes"], "A one-way connection between processes of one machine."),
    term(
        "pod",
        &["pods"],
        "One or more containers that share a network and start and end together. Kubernetes places \
                            pods on nodes.",
    ),
    term("pointer", &["pointers"], "A memory address stored in memory."),
    term("port", &["ports"], "The number that distinguishes connections and servers of one address."),
    term(
        "port-forward",
        &["kubectl port-forward", "PortForward", "forwarded port"],
        "To reach a port of a pod through the API server.",
    ),
    term("process", &["processes"], "A running program."),
    term("protocol", &["protocols"], "The rules of communication between two programs."),
    term("proxy", &["proxies"], "A program that forwards connections or requests."),
    term(
        "pseudo-terminal",
        &["terminal"],
        "A terminal made of software: bytes written to one end, the master, arrive as typed input at the other.",
    ),
    term("RBAC", &[], "Role-based access control: the rules for the rights of each user."),
    term("registers", &[], "The few storage places inside the processor that hold a running program's current values."),
    term("runc", &[], "The OCI runtime that most systems use."),
    term(
        "runtime",
        &["runtimes", "container runtime"],
        "The program that manages a node's containers: containerd, CRI-O, Docker.",
    ),
    term("server", &["servers"], "The program that accepts connections and answers requests."),
    term("session", &["sessions"], "One exec, attach, forwarded port …, from the client to the process."),
    term("shim", &[], "The small program that stays with a container's processes while the runtime may restart."),
    term("signal", &[], "A short notification to a process; most signals end it."),
    term(
        "socket",
        &["unix socket", "sockets"],
        "One end of a connection, held by a process. A unix socket connects processes of one machine and has a path \
         as its address.",
    ),
    term(
        "SPDY",
        &[],
        "A protocol that carries several streams on one connection. It was designed for the web and led to HTTP/2; \
         Kubernetes still uses it.",
    ),
    term("ss", &[], "A tool that lists sockets."),
    term(
        "stdin",
        &["stdout", "stderr"],
        "The three files of a command at its start: stdin for input, stdout for output, stderr for errors.",
    ),
    term("stream", &["streams"], "A sequence of bytes without a known end; here: the input and output of a session."),
    term("strong", &[], "Grade of a link: signs agree and nothing else fits, but no identity proves it."),
    term("system call", &[], "A request of a process to the kernel."),
    term("tar", &[], "A program that packs files into one stream of bytes."),
    term("TCP", &[], "The protocol by which connections cross networks."),
    term("thread", &["threads"], "One of several activities of a process, scheduled by the kernel."),
    term("TLS", &[], "Encryption of a connection: without the keys, only the number of bytes is visible."),
    term("token", &[], "A hard-to-guess word that grants a right or identifies an object."),
    term("ttrpc", &[], "gRPC made small, for runtimes and their shims."),
    term("tunnel", &[], "A connection that carries the connections of others."),
    term("uid", &[], "The number of a user on a host; 0 is root."),
    term("unix connection", &[], "A connection between two unix sockets."),
    term("URL", &[], "An address with a path, as for a web page."),
    term("weak", &[], "Grade of a link: only the order in time suggests it."),
    term("webhook", &["webhooks"], "A server that the API server asks for permission or changes."),
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
