//! Commands of kubectl, parsed from its arguments. Pure text functions; every input is hostile.
//!
//! Options are parsed like pflag does it (github.com/spf13/pflag): in any order, `--name=value`, `--name value`, `-n
//! value`, `-nvalue` and joined switches (`-it`), up to `--`.

use super::RawText;

/// A call of kubectl.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubectlCall<'a> {
    /// Subcommand: `exec`, `get`.
    pub word: &'a str,
    /// Namespace in the arguments. Without one, kubectl uses the namespace of its kubeconfig file.
    pub namespace: Option<&'a str>,
    /// Pod. `None` if the arguments name another object, from which kubectl picks a pod (`deploy/web`, `-f FILE`).
    pub pod: Option<&'a str>,
    /// Container. Without one, kubectl uses the pod's default container.
    pub container: Option<&'a str>,
    /// Command to run in the container; empty if there is none.
    pub command: &'a [RawText],
    /// True if kubectl passes its input on (`-i`, `--stdin`).
    pub stdin: bool,
    /// True if every option is known. An unknown option could take the next word as its value.
    pub understood: bool,
}

/// Argument of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
}

/// Options of every command that take a value (staging/src/k8s.io/cli-runtime, pkg/genericclioptions/config_flags.go;
/// klog).
const VALUES: &[&str] = &[
    "-n",
    "--namespace",
    "-s",
    "--server",
    "-v",
    "--v",
    "--as",
    "--as-group",
    "--as-uid",
    "--as-user-extra",
    "--cache-dir",
    "--certificate-authority",
    "--client-certificate",
    "--client-key",
    "--cluster",
    "--context",
    "--kubeconfig",
    "--kuberc",
    "--log-backtrace-at",
    "--log-dir",
    "--log-file",
    "--log-file-max-size",
    "--log-flush-frequency",
    "--password",
    "--profile",
    "--profile-output",
    "--request-timeout",
    "--stderrthreshold",
    "--tls-server-name",
    "--token",
    "--user",
    "--username",
    "--vmodule",
];

/// Options of every command that take no value.
const SWITCHES: &[&str] = &[
    "--add-dir-header",
    "--alsologtostderr",
    "--disable-compression",
    "--insecure-skip-tls-verify",
    "--logtostderr",
    "--match-server-version",
    "--one-output",
    "--skip-headers",
    "--skip-log-headers",
    "--warnings-as-errors",
];

/// Options of one command: those with a value, those without (staging/src/k8s.io/kubectl, pkg/cmd).
fn own_options(word: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match word {
        "exec" => (
            &["-c", "--container", "-f", "--filename", "-p", "--pod", "--pod-running-timeout"],
            &["-i", "--stdin", "-t", "--tty", "-q", "--quiet"],
        ),
        "attach" => (
            &["-c", "--container", "--pod-running-timeout", "--detach-keys"],
            &["-i", "--stdin", "-t", "--tty", "-q", "--quiet"],
        ),
        "cp" => (&["-c", "--container", "--retries"], &["--no-preserve"]),
        "port-forward" => (&["--address", "--pod-running-timeout"], &[]),
        "logs" => (
            &[
                "-c",
                "--container",
                "-l",
                "--selector",
                "--tail",
                "--since",
                "--since-time",
                "--limit-bytes",
                "--max-log-requests",
                "--pod-running-timeout",
            ],
            &[
                "-f",
                "--follow",
                "-p",
                "--previous",
                "--all-containers",
                "--all-pods",
                "--timestamps",
                "--prefix",
                "--ignore-errors",
                "--insecure-skip-tls-verify-backend",
            ],
        ),
        "debug" => (
            &[
                "-c",
                "--container",
                "-f",
                "--filename",
                "--image",
                "--image-pull-policy",
                "--copy-to",
                "--custom",
                "--env",
                "--profile",
                "--set-image",
                "--target",
            ],
            &[
                "-i",
                "--stdin",
                "-t",
                "--tty",
                "-q",
                "--quiet",
                "--attach",
                "--arguments-only",
                "--keep-annotations",
                "--keep-init-containers",
                "--keep-labels",
                "--keep-liveness",
                "--keep-readiness",
                "--keep-startup",
                "--replace",
                "--same-node",
                "--share-processes",
            ],
        ),
        _ => (&[], &[]),
    }
}

/// Parses the arguments of kubectl; `None` if they contain no subcommand. The name of the program is ignored.
#[must_use]
pub fn parse_kubectl(argv: &[RawText]) -> Option<KubectlCall<'_>> {
    let mut parser = Parser { understood: true, ..Parser::default() };
    let mut at = 1;
    while let Some(word) = argv.get(at) {
        at += 1;
        let next = argv.get(at).and_then(RawText::as_str);
        match word.as_str() {
            Some("--") => {
                parser.command = argv.get(at..);
                break;
            }
            Some(text) if text.starts_with("--") => at += parser.long(text, next),
            Some(text) if text.len() > 1 && text.starts_with('-') => at += parser.short(text, next),
            Some(text) if parser.word.is_none() => {
                // `k3s kubectl exec …`
                if text != "kubectl" {
                    parser.word = Some(text);
                }
            }
            Some(text) => parser.operand(text, at - 1),
            None => parser.operand("", at - 1),
        }
    }
    parser.call(argv)
}

#[derive(Default)]
struct Parser<'a> {
    word: Option<&'a str>,
    /// Words that are not options, at most [`MAX_OPERANDS`].
    operands: Vec<&'a str>,
    /// Index of the second operand in the arguments.
    second: Option<usize>,
    namespace: Option<&'a str>,
    container: Option<&'a str>,
    /// Value of `-p POD`, an option of old kubectls.
    pod: Option<&'a str>,
    /// Set if a file names the pod (`-f FILE`).
    by_file: bool,
    command: Option<&'a [RawText]>,
    stdin: bool,
    understood: bool,
}

/// Number of operands that matter: source and destination of `cp`.
const MAX_OPERANDS: usize = 2;

impl<'a> Parser<'a> {
    fn operand(&mut self, text: &'a str, at: usize) {
        if self.operands.len() == 1 {
            self.second = Some(at);
        }
        if self.operands.len() < MAX_OPERANDS {
            self.operands.push(text);
        }
    }

    /// Argument of the option; `None` for an unknown option.
    fn takes(&self, name: &str) -> Option<Takes> {
        let (values, switches) = own_options(self.word.unwrap_or_default());
        // A command's own options come first: `-s` and `--profile` mean something else to some commands.
        if switches.contains(&name) || SWITCHES.contains(&name) {
            Some(Takes::Nothing)
        } else if values.contains(&name) || VALUES.contains(&name) {
            Some(Takes::Value)
        } else {
            None
        }
    }

    fn set(&mut self, name: &str, value: &'a str) {
        let is_exec = self.word == Some("exec");
        match name {
            "-n" | "--namespace" => self.namespace = Some(value),
            "-c" | "--container" => self.container = Some(value),
            "-p" | "--pod" if is_exec => self.pod = Some(value),
            "-f" | "--filename" => self.by_file = true,
            _ => {}
        }
    }

    /// Sets a switch.
    fn switch(&mut self, name: &str, value: &str) {
        if matches!(name, "-i" | "--stdin") {
            self.stdin = value == "true";
        }
    }

    /// Parses `--name` or `--name=value`; returns the number of further words taken.
    fn long(&mut self, text: &'a str, next: Option<&'a str>) -> usize {
        if let Some((name, value)) = text.split_once('=') {
            self.understood &= self.takes(name).is_some();
            self.set(name, value);
            self.switch(name, value);
            return 0;
        }
        self.valued(text, next)
    }

    /// Parses an option whose value, if it takes one, is the next word.
    fn valued(&mut self, name: &str, next: Option<&'a str>) -> usize {
        match self.takes(name) {
            Some(Takes::Value) => {
                if let Some(value) = next {
                    self.set(name, value);
                }
                1
            }
            Some(Takes::Nothing) => {
                self.switch(name, "true");
                0
            }
            None => {
                self.understood = false;
                0
            }
        }
    }

    /// Parses `-n`, `-nvalue` or `-it`; returns the number of further words taken.
    fn short(&mut self, text: &'a str, next: Option<&'a str>) -> usize {
        for (at, letter) in text.char_indices().skip(1) {
            let rest = text.get(at + letter.len_utf8()..).unwrap_or_default();
            let name = format!("-{letter}");
            if rest.is_empty() {
                return self.valued(&name, next);
            }
            match self.takes(&name) {
                Some(Takes::Value) => {
                    self.set(&name, rest.strip_prefix('=').unwrap_or(rest));
                    return 0;
                }
                // `-i=false`
                Some(Takes::Nothing) if rest.starts_with('=') => {
                    self.switch(&name, rest.trim_start_matches('='));
                    return 0;
                }
                Some(Takes::Nothing) => self.switch(&name, "true"),
                None => {
                    self.understood = false;
                    return 0;
                }
            }
        }
        0
    }

    fn call(self, argv: &'a [RawText]) -> Option<KubectlCall<'a>> {
        let word = self.word?;
        let mut call = KubectlCall { word, stdin: self.stdin, understood: self.understood, ..KubectlCall::default() };
        call.namespace = self.namespace.filter(|name| is_name(name));
        call.container = self.container.filter(|name| is_name(name) && word != "debug");
        let first = self.operands.first().copied().filter(|_| self.understood && !self.by_file);
        match word {
            "cp" => {
                let remote = self.operands.iter().filter(|_| self.understood).find_map(|path| remote(path));
                if let Some((namespace, pod)) = remote {
                    call.namespace = namespace.or(call.namespace);
                    call.pod = Some(pod);
                }
            }
            "exec" | "attach" | "port-forward" | "logs" | "debug" => call.pod = self.pod.or(first).and_then(pod),
            _ => {}
        }
        if word == "exec" {
            // Without `--` the command follows the pod (deprecated until kubectl 1.35, then refused).
            let after_pod = self.second.filter(|_| self.understood && !self.by_file && self.pod.is_none());
            call.command = self.command.or_else(|| argv.get(after_pod?..)).unwrap_or_default();
        }
        Some(call)
    }
}

/// Pod named by `pod`, `pod/NAME`, `pods/NAME` or `po/NAME`.
fn pod(resource: &str) -> Option<&str> {
    let name = match resource.split_once('/') {
        None => resource,
        Some(("pod" | "pods" | "po", name)) => name,
        Some(_) => return None,
    };
    is_name(name).then_some(name)
}

/// Namespace and pod of `[NAMESPACE/]POD:PATH`.
fn remote(path: &str) -> Option<(Option<&str>, &str)> {
    let (place, _) = path.split_once(':')?;
    let (namespace, pod) = match place.split_once('/') {
        Some((namespace, pod)) => (Some(namespace), pod),
        None => (None, place),
    };
    (is_name(pod) && namespace.is_none_or(is_name)).then_some((namespace, pod))
}

/// True for a valid name of an API object (RFC 1123, with dots: apimachinery/pkg/util/validation).
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats word, namespace, pod, container and command; `-` for a missing part.
    fn parsed(line: &str) -> String {
        let argv: Vec<RawText> = line.split_whitespace().map(RawText::from).collect();
        let Some(call) = parse_kubectl(&argv) else { return "nothing".to_owned() };
        let or = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let command: Vec<String> = call.command.iter().map(|word| word.to_text().into_owned()).collect();
        let command = if command.is_empty() { "-".to_owned() } else { command.join(" ") };
        format!("{} {} {} {} {command}", call.word, or(call.namespace), or(call.pod), or(call.container))
    }

    #[test]
    fn stdin_option_enables_input() {
        let stdin = |line: &str| {
            let argv: Vec<RawText> = line.split_whitespace().map(RawText::from).collect();
            parse_kubectl(&argv).map(|call| call.stdin)
        };
        for line in [
            "kubectl exec -it web -- sh",
            "kubectl exec web -ti -c i -- sh",
            "kubectl -n a exec --stdin web -- cat",
            "kubectl exec -i=true web -- cat",
        ] {
            assert_eq!(stdin(line), Some(true), "{line}");
        }
        for line in
            ["kubectl exec web -- grep -i x", "kubectl exec -t -c -i web -- sh", "kubectl exec --stdin=false web -- x"]
        {
            assert_eq!(stdin(line), Some(false), "{line}");
        }
    }

    #[test]
    fn options_are_accepted_in_any_order() {
        for line in [
            "kubectl exec -n ns pod -c ctr -- sh -c x",
            "kubectl -n ns exec pod -c ctr -- sh -c x",
            "kubectl exec pod -c ctr -n ns -- sh -c x",
            "kubectl exec --namespace=ns --container=ctr pod -- sh -c x",
            "kubectl exec -it -nns -cctr pod -- sh -c x",
            "kubectl exec -itc ctr -n=ns pod -- sh -c x",
            "kubectl --kubeconfig pod exec -i=false --tty=true -c ctr --namespace ns pod/pod -- sh -c x",
            "kubectl -v 9 exec -v=9 -c other -c ctr -n ns po/pod -- sh -c x",
            "k3s kubectl exec -n ns -c ctr pods/pod -- sh -c x",
            "kubectl exec -p pod -n ns -c ctr -- sh -c x",
        ] {
            assert_eq!(parsed(line), "exec ns pod ctr sh -c x", "{line}");
        }
    }

    #[test]
    fn options_of_the_command_are_not_parsed() {
        assert_eq!(parsed("kubectl exec web -- sh -n x -c y"), "exec - web - sh -n x -c y");
        assert_eq!(
            parsed("kubectl exec -n ns web -- kubectl exec -n other db -- sh"),
            "exec ns web - kubectl exec -n other db -- sh"
        );
    }

    #[test]
    fn command_without_dashes_follows_the_pod() {
        assert_eq!(parsed("kubectl exec web ls /tmp"), "exec - web - ls /tmp");
        assert_eq!(parsed("kubectl exec -n ns -it web -c side sh"), "exec ns web side sh");
        assert_eq!(parsed("kubectl exec web"), "exec - web - -");
    }

    #[test]
    fn other_resources_name_no_pod() {
        assert_eq!(parsed("kubectl exec deploy/web -- sh"), "exec - - - sh");
        assert_eq!(parsed("kubectl exec svc/web -c a -- sh"), "exec - - a sh");
        assert_eq!(parsed("kubectl exec -f pod.yaml -- sh"), "exec - - - sh");
        assert_eq!(parsed("kubectl port-forward service/web 80"), "port-forward - - - -");
    }

    #[test]
    fn unknown_option_leaves_the_pod_undecided() {
        assert_eq!(parsed("kubectl exec --new value web -- sh"), "exec - - - sh");
        assert_eq!(parsed("kubectl exec -Z value web sh"), "exec - - - -");
        assert_eq!(parsed("kubectl exec -n ns --new=value web -- sh"), "exec ns - - sh");
    }

    #[test]
    fn each_command_names_its_pod() {
        assert_eq!(parsed("kubectl attach -it web -c side"), "attach - web side -");
        assert_eq!(parsed("kubectl logs -f web -n ns"), "logs ns web - -");
        assert_eq!(parsed("kubectl logs -p web"), "logs - web - -");
        assert_eq!(parsed("kubectl port-forward --address 0.0.0.0 pod/web 8080:80"), "port-forward - web - -");
        assert_eq!(parsed("kubectl cp /tmp/a ns/web:/tmp/b -c side"), "cp ns web side -");
        assert_eq!(parsed("kubectl cp -n other web:/tmp/b ."), "cp other web - -");
        assert_eq!(parsed("kubectl debug web --image=busybox --target app -c d -it"), "debug - web - -");
        assert_eq!(parsed("kubectl get pods -n ns"), "get ns - - -");
    }

    #[test]
    fn hostile_words_name_no_object() {
        for line in ["kubectl", "kubectl -n", "kubectl -- exec web", "", "kubectl -"] {
            assert!(["nothing", "- - - - -"].contains(&parsed(line).as_str()), "{line}: {}", parsed(line));
        }
        assert_eq!(parsed("kubectl exec ../../x -- sh"), "exec - - - sh");
        assert_eq!(parsed("kubectl exec \u{1b}[31m -n \u{1b} -- sh"), "exec - - - sh");
        assert_eq!(parsed("kubectl exec -ä web -- sh"), "exec - - - sh");
        let argv = [RawText::from("kubectl"), RawText::from("exec"), RawText::from(&b"\xff"[..])];
        assert_eq!(parse_kubectl(&argv).and_then(|call| call.pod), None);
    }
}
