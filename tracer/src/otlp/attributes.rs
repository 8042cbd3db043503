//! Names of attributes, as data: the page docs/otlp.md lists them, and a test compares them with what a receiver gets.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};

/// An attribute.
pub struct Attribute {
    /// Name: of OpenTelemetry's semantic conventions, or under `execpath.`.
    pub name: &'static str,
    /// Meaning.
    pub about: &'static str,
}

macro_rules! attributes {
    ($($constant:ident = $name:literal, $about:literal;)*) => {
        $(pub(super) const $constant: &str = $name;)*
        /// All attributes.
        pub const ATTRIBUTES: &[Attribute] = &[$(Attribute { name: $name, about: $about }),*];
    };
}

attributes! {
    SERVICE_NAME = "service.name", "resource: `execpath`";
    SERVICE_VERSION = "service.version", "resource: version of execpath";
    HOST_NAME = "host.name", "resource: the traced host; on a hop: its host, in a recording of several hosts";
    HOST_ID = "host.id", "resource: boot id of the traced host";
    HOST_ARCH = "host.arch", "resource: `uname -m`";
    OS_VERSION = "os.version", "resource: `uname -r`";
    NAMESPACE = "k8s.namespace.name", "namespace of the pod";
    POD = "k8s.pod.name", "name of the pod";
    POD_UID = "k8s.pod.uid", "UID of the pod";
    CONTAINER = "k8s.container.name", "name of the container";
    CONTAINER_ID = "container.id", "id of the container";
    RUNTIME = "container.runtime.name", "runtime of the container";
    CLIENT_ADDRESS = "client.address", "address of the client's end, as the first proxy sees it";
    CLIENT_PORT = "client.port", "port of the client's end";
    USER = "user.name", "user of the session by the API server's audit log";
    ARGS = "process.command_args", "session: the requested command; hop: arguments of the process; redacted as in recordings";
    EXIT_CODE = "process.exit.code", "exit code of the command, or of the hop's process";
    PID = "process.pid", "process id in the initial pid namespace";
    EXECUTABLE = "process.executable.name", "`comm` of the process";
    EXECUTABLE_PATH = "process.executable.path", "program of the process";
    PROCESS_UID = "process.real_user.id", "user id of the process";
    TRANSPORT = "network.transport", "`tcp` or `unix`";
    LOCAL_ADDRESS = "network.local.address", "address of the end nearer to the client";
    LOCAL_PORT = "network.local.port", "port of the end nearer to the client";
    PEER_ADDRESS = "network.peer.address", "address, or path of a unix socket, of the end nearer to the process; where the path leaves the host: the other host's";
    PEER_PORT = "network.peer.port", "port of that end";
    ERROR = "error.type", "error name of the failed stage of an attempt, or `start-failed`";
    SESSION = "execpath.session.id", "id of the session, as in `execpath ls`";
    KIND = "execpath.session.kind", "kind of the session";
    PREEXISTING = "execpath.session.preexisting", "true if the session is older than the tracer";
    COMPLETE = "execpath.session.complete", "true if no hop that can be on this host is missing";
    CONFIDENCE = "execpath.confidence", "session: of its weakest link; link: its own (exact, strong, weak)";
    TTY = "execpath.session.tty", "true if the process has a terminal";
    STDIN = "execpath.session.stdin", "true if stdin is passed on";
    EXEC_ID = "execpath.session.exec_id", "exec id of the runtime";
    REASON = "execpath.exit.reason", "exited, signalled, start-failed or unknown";
    SIGNAL = "execpath.exit.signal", "signal that ended the command";
    REACHED = "execpath.attempt.reached", "last stage that the attempt reached";
    FAILED_AT = "execpath.attempt.failed_at", "stage that failed";
    ROLE = "execpath.hop.role", "role of the process on the path";
    HOP = "execpath.hop.index", "place of the hop on the path, from the client";
    LINK_KIND = "execpath.link.kind", "tcp, unix, relay, fifo, fork or exec";
    FROM = "execpath.link.from", "index of the hop nearer to the client";
    TO = "execpath.link.to", "index of the hop nearer to the process";
    EVIDENCE = "execpath.link.evidence", "what proves the link, strongest first";
    PERSISTENT = "execpath.link.persistent", "true if several sessions share the connection";
    SENT = "execpath.link.bytes_sent", "bytes from the nearer to the farther end; set once the connection has ended";
    RECEIVED = "execpath.link.bytes_received", "bytes in the other direction";
    GAP = "execpath.gap.code", "event `execpath.gap`: reason of an unknown part of the path";
    GAP_TEXT = "execpath.gap.text", "event `execpath.gap`: the reason in words";
    RELATION = "execpath.relation", "span link: `next-hop` to the hop that a link leads to, `merged-into` to the session that this one is part of, `client-connection` to an id that sessions of other hosts with the same client connection share";
    SIDE = "execpath.beyond.side", "side on which the path leaves this host";
    CODE = "execpath.verdict.code", "code of the verdict, as in docs/faults";
    NAME = "execpath.verdict.name", "name of the fault";
    SEVERITY = "execpath.verdict.severity", "fault or info";
}

/// Longest text of a value, in bytes. A receiver takes 4 MiB in one message (gRPC's default).
const LONGEST: usize = 1_024;
/// Most texts of a list.
const MOST: usize = 64;

/// Attributes under construction. An unknown value adds none.
#[derive(Default)]
pub(super) struct Attributes(Vec<KeyValue>);

/// Text, cut at a character's border.
pub(super) fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned()
}

fn text_value(text: &str) -> Value {
    Value::StringValue(bounded(text))
}

impl Attributes {
    fn add(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.push(KeyValue {
                key: name.to_owned(),
                value: Some(AnyValue { value: Some(value) }),
                ..KeyValue::default()
            });
        }
        self
    }

    pub(super) fn text(self, name: &str, text: Option<&str>) -> Self {
        self.add(name, text.map(text_value))
    }

    pub(super) fn number(self, name: &str, number: Option<impl TryInto<i64>>) -> Self {
        self.add(name, number.map(|number| Value::IntValue(number.try_into().unwrap_or(i64::MAX))))
    }

    pub(super) fn flag(self, name: &str, flag: Option<bool>) -> Self {
        self.add(name, flag.map(Value::BoolValue))
    }

    pub(super) fn list<T: AsRef<str>>(self, name: &str, texts: impl Iterator<Item = T>) -> Self {
        let value = |text: T| AnyValue { value: Some(text_value(text.as_ref())) };
        let values: Vec<AnyValue> = texts.take(MOST).map(value).collect();
        let list = (!values.is_empty()).then_some(Value::ArrayValue(ArrayValue { values }));
        self.add(name, list)
    }

    pub(super) fn done(self) -> Vec<KeyValue> {
        self.0
    }
}
