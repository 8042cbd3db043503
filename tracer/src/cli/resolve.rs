//! Gives the arguments their meaning: checked, opened, ready to run.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufWriter, IsTerminal},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    agent_args,
    args::{self, Color},
    error::{Failure, named, tell},
    exit::Exit,
    shared_args::{Nats, Queue},
    stream,
};
use crate::{
    confine,
    correlate::Options,
    engine::{Filter, Kinds, Setup, Until},
    export::{self, ExportError, ExportSink, Exporter},
    host_paths::{self, HostPaths},
    inspect::InspectOptions,
    live::Live,
    model::{Kind, Pairing, RawText},
    netns::NetNs,
    record::{self, CreateError, Existing, RecordTarget, Rotate},
    redact::Redactor,
    render::Picture,
    run::Observer,
    sink::{FORMATS, Format, LISTS, Sink, Style, Target},
    source::audit::AuditLog,
    stream::{Address, without_token},
};

/// An output format and its file; `None` is stdout.
pub(super) struct Output<F: 'static = Format> {
    pub(super) format: &'static F,
    pub(super) path: Option<PathBuf>,
}

/// A format that `--output` can name.
pub(super) trait Named {
    /// Name of the format.
    fn name(&self) -> &'static str;
}

impl Named for Format {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl Named for Picture {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl Output {
    pub(super) const fn goes_to_a_file(&self) -> bool {
        self.path.is_some()
    }
}

/// Facts of the environment about colours.
pub(super) struct Surroundings {
    /// Set if stdout is a terminal with colours.
    pub(super) terminal: bool,
    /// Set if NO_COLOR is set.
    pub(super) no_color: bool,
}

impl Surroundings {
    pub(super) fn look() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self { terminal: io::stdout().is_terminal() && !dumb, no_color: set("NO_COLOR").is_some() }
    }

    fn style(&self, color: Color, terminal: bool) -> Style {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !self.no_color,
        };
        Style { color }
    }
}

pub(super) fn trace(args: args::Trace, command: &[OsString]) -> Result<Live, Failure> {
    let outputs = explained(outputs(&args.output.output, FORMATS)?, args.output.explain, FORMATS)?;
    one_to_stdout(&outputs, args.record.as_deref())?;
    let netns = host(&args.places)?;
    let audit_log = audit_log(&args.audit)?;
    let record = args.record.as_deref().map(|path| place(path, args.rotate)).transpose()?;
    let redactor = redactor(args.privacy);
    let exporter = exporter(&args.export)?;
    Ok(Live {
        command: line(command, &redactor),
        net: exporter.as_ref().map(Exporter::net).unwrap_or_default(),
        setup: Setup {
            exporters: sinks_of(exporter.as_ref()),
            filter: filter(args.filter),
            redactor,
            until: if args.once { Until::Complete } else { Until::Never },
            sinks: open(&outputs, args.output.color)?,
        },
        no_memory: args.places.no_memory,
        options: options(args.places),
        netns,
        duration: args.duration,
        // Verdicts rest on samples.
        measure: args.measure.or(exporter.is_some().then_some(agent_args::MEASURED)),
        record,
        ring_bytes: args.ring_bytes,
        road: args.kernel.road,
        audit_log,
        ready: io::stderr().is_terminal().then(watching),
        ..Live::default()
    })
}

/// A trace without output.
pub(super) fn record(args: args::Record, command: &[OsString]) -> Result<Live, Failure> {
    let netns = host(&args.places)?;
    let audit_log = audit_log(&args.audit)?;
    stream::without_rotation(args.rotate.is_some(), Some(&args.file))?;
    let (record, is_published) = target(&args.file, args.rotate, &args.since.nats, &args.queue)?;
    let every = humantime::format_duration(args.measure);
    let stop = if io::stderr().is_terminal() { "; press Ctrl-C to stop" } else { "" };
    let begun = format!(
        "all sessions, with samples every {every}, to {}{stop}",
        named(Path::new(&without_token(&args.file.to_string_lossy())))
    );
    let redactor = redactor(args.privacy);
    let exporter = exporter(&args.export)?;
    let live = Live {
        command: line(command, &redactor),
        net: exporter.as_ref().map(Exporter::net).unwrap_or_default(),
        setup: Setup { redactor, exporters: sinks_of(exporter.as_ref()), ..Setup::default() },
        no_memory: args.places.no_memory,
        options: options(args.places),
        netns,
        duration: args.duration,
        measure: Some(args.measure),
        record: Some(record),
        road: args.kernel.road,
        audit_log,
        ready: Some(Box::new(move || tell("recording", &begun))),
        ..Live::default()
    };
    Ok(stream::connecting(live, is_published))
}

/// A trace of the agent. Its exporter lives longer than a trace.
pub(super) fn agent(
    args: &agent_args::Agent,
    command: &[OsString],
    exporter: Option<&Exporter>,
) -> Result<Live, Failure> {
    let netns = host(&args.places)?;
    let audit_log = audit_log(&args.audit)?;
    let rotate = Some(args.rotate.unwrap_or(agent_args::ROTATE));
    let record = args.record.as_deref().map(|path| target(path, rotate, &args.nats, &args.queue)).transpose()?;
    let (record, is_published) = record.map_or((None, false), |(record, is_published)| (Some(record), is_published));
    let redactor = redactor(args.privacy.clone());
    let live = Live {
        command: line(command, &redactor),
        net: exporter.map(Exporter::net).unwrap_or_default(),
        setup: Setup {
            redactor,
            exporters: exporter
                .map(|exporter| Box::new(ExportSink::of_many(exporter)) as Box<dyn Sink>)
                .into_iter()
                .collect(),
            ..Setup::default()
        },
        no_memory: args.places.no_memory,
        options: options(args.places.clone()),
        netns,
        measure: Some(args.measure),
        record,
        road: args.kernel.road,
        audit_log,
        ..Live::default()
    };
    Ok(stream::connecting(live, is_published))
}

/// The observer of a command that `run` runs.
pub(super) fn observer(args: args::Run, command: &[OsString]) -> Result<Observer, Failure> {
    let netns = host(&args.places)?;
    let audit_log = audit_log(&args.audit)?;
    let redactor = redactor(args.privacy);
    let no_memory = args.places.no_memory;
    let options = options(args.places);
    let filter = Filter { kinds: Kinds::All, ..Filter::default() };
    let look = InspectOptions {
        filter: filter.clone(),
        redactor: redactor.clone(),
        options: options.clone(),
        netns: netns.clone(),
        no_memory,
        own_only: true,
    };
    let live = Live {
        command: line(command, &redactor),
        setup: Setup { filter, redactor, ..Setup::default() },
        options,
        netns,
        no_memory,
        audit_log,
        ..Live::default()
    };
    Ok(Observer { live, look, record: args.record })
}

/// A live trace for the screen. The caller sets its receiver.
pub(super) fn screen(args: args::Screen, command: &[OsString]) -> Result<Live, Failure> {
    let audit_log = audit_log(&args.look.audit)?;
    let InspectOptions { filter, redactor, options, netns, no_memory, own_only: _ } = look(args.look)?;
    let command = line(command, &redactor);
    Ok(Live {
        setup: Setup { filter, redactor, ..Setup::default() },
        options,
        netns,
        measure: Some(args.measure),
        command,
        no_memory,
        audit_log,
        ..Live::default()
    })
}

/// The demo, and true if its output goes to stdout for people. The demo then ends with a summary.
pub(super) fn demo(args: args::Demo, command: &[OsString]) -> Result<(Live, bool), Failure> {
    let outputs = explained(outputs(&args.output.output, FORMATS)?, args.output.explain, FORMATS)?;
    one_to_stdout(&outputs, args.record.as_deref())?;
    let drawn = outputs.iter().any(|output| output.path.is_none() && [DRAWN, EXPLAINED].contains(&output.format.name));
    let record = args.record.as_deref().map(|path| place(path, None)).transpose()?;
    let setup = Setup { sinks: open(&outputs, args.output.color)?, ..Setup::default() };
    let live =
        Live { setup, record, road: args.kernel.road, command: line(command, &Redactor::default()), ..Live::default() };
    Ok((live, drawn))
}

/// The command line as recordings keep it.
pub(super) fn line(command: &[OsString], redactor: &Redactor) -> String {
    let mut words: Vec<RawText> = command.iter().map(|word| RawText::from(word.as_bytes())).collect();
    redactor.redact_words(&mut words, &mut false);
    let word = |word: &RawText| without_token(&named(Path::new(OsStr::from_bytes(word.as_bytes()))));
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn one_to_stdout(outputs: &[Output], record: Option<&Path>) -> Result<(), Failure> {
    let to_stdout = outputs.iter().any(|output| output.path.is_none());
    if to_stdout && record == Some(Path::new("-")) {
        return Err(Failure::usage(
            "`--record -` and `-o` both write to stdout",
            "write one of them to a file: `-o tree=FILE` or `--record FILE`",
        ));
    }
    Ok(())
}

/// A notice for the user that the trace runs and waits for sessions.
fn watching() -> Box<dyn FnOnce() + Send> {
    Box::new(|| tell("notice", "waiting for sessions; press Ctrl-C to stop"))
}

pub(super) fn replay(args: args::Replay) -> Result<Setup, Failure> {
    let outputs = explained(outputs(&args.output.output, FORMATS)?, args.output.explain, FORMATS)?;
    let sinks = open(&outputs, args.output.color)?;
    Ok(Setup { sinks, ..silent(args.filter, args.privacy) })
}

/// Outputs for the state at one moment.
pub(super) fn as_of(output: &args::Output) -> Result<Vec<Box<dyn Sink>>, Failure> {
    open(&outputs(&output.output, LISTS)?, output.color)
}

/// The set-up for a replay whose result is inspected afterwards.
pub(super) fn silent(filtered: args::Filter, privacy: args::Privacy) -> Setup {
    Setup {
        filter: filter(filtered),
        redactor: redactor(privacy),
        until: Until::Never,
        sinks: Vec::new(),
        ..Setup::default()
    }
}

/// A replay into one sink, and true if a filter narrows it down.
pub(super) fn render(wanted: args::Filter, privacy: args::Privacy, sink: Box<dyn Sink>) -> (Setup, bool) {
    let filter = filter(wanted);
    // `--kind all` adds sessions to the default, so it narrows nothing down.
    let narrow = is_narrow(&filter) && filter != Filter { kinds: Kinds::All, ..Filter::default() };
    (Setup { filter, redactor: redactor(privacy), until: Until::Never, sinks: vec![sink], ..Setup::default() }, narrow)
}

/// The set-up for a scan of this host.
pub(super) fn look(args: args::Look) -> Result<InspectOptions, Failure> {
    Ok(InspectOptions {
        filter: filter(args.filter),
        redactor: redactor(args.privacy),
        netns: host(&args.places)?,
        no_memory: args.places.no_memory,
        options: options(args.places),
        own_only: false,
    })
}

fn options(args: args::Places) -> Options {
    Options {
        apiserver_port: args.apiserver_port,
        kubelet_port: args.kubelet_port,
        runtime_socket: args.runtime_socket,
        pairing: Pairing::default(),
    }
}

/// Style of stdout.
pub(super) fn style(color: Color) -> Style {
    let surroundings = Surroundings::look();
    surroundings.style(color, surroundings.terminal)
}

/// True if any filter differs from the default.
pub(super) fn is_narrow(filter: &Filter) -> bool {
    *filter != Filter::default()
}

/// Checks formats and paths without opening a file.
pub(super) fn outputs<F: Named>(specs: &[OsString], formats: &'static [F]) -> Result<Vec<Output<F>>, Failure> {
    let mut outputs: Vec<Output<F>> = Vec::new();
    for spec in specs {
        let bytes = spec.as_bytes();
        let (name, path) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        let Some(format) =
            std::str::from_utf8(name).ok().and_then(|name| formats.iter().find(|format| format.name() == name))
        else {
            let names: Vec<&str> = formats.iter().map(Named::name).collect();
            let name = named(Path::new(OsStr::from_bytes(name)));
            return Err(Failure::usage(
                format!("unknown output format `{name}`"),
                format!("use one of: {}", names.join(", ")),
            ));
        };
        let path = match path {
            Some([]) => {
                return Err(Failure::usage(
                    format!("`-o {}=` has no file name", format.name()),
                    format!("use `-o {0}=FILE`, or `-o {0}` for stdout", format.name()),
                ));
            }
            Some(b"-") | None => None,
            Some(path) => Some(PathBuf::from(OsStr::from_bytes(path))),
        };
        if outputs.iter().any(|output| output.path == path) {
            let place = path.as_deref().map_or_else(|| "stdout".to_owned(), named);
            return Err(Failure::usage(
                format!("two outputs write to {place}"),
                format!("use a file for each: `-o {}=FILE`", format.name()),
            ));
        }
        outputs.push(Output { format, path });
    }
    Ok(outputs)
}

/// Names of the format that draws, and of the one that draws and explains.
const DRAWN: &str = "tree";
const EXPLAINED: &str = "explain";

/// Replaces `tree` by `explain` if `--explain` is given.
pub(super) fn explained(
    mut outputs: Vec<Output>,
    explain: bool,
    formats: &'static [Format],
) -> Result<Vec<Output>, Failure> {
    let words = formats.iter().find(|format| format.name == EXPLAINED).filter(|_| explain);
    let Some(words) = words else { return Ok(outputs) };
    let mut drawn = outputs.iter_mut().filter(|output| [DRAWN, EXPLAINED].contains(&output.format.name)).peekable();
    if drawn.peek().is_none() {
        return Err(Failure::usage(
            "`--explain` needs the output format `tree`",
            "omit `-o`, or add `-o explain=FILE`",
        ));
    }
    drawn.for_each(|output| output.format = words);
    Ok(outputs)
}

pub(super) fn open(outputs: &[Output], color: Color) -> Result<Vec<Box<dyn Sink>>, Failure> {
    let surroundings = Surroundings::look();
    let mut sinks = Vec::new();
    for Output { format, path } in outputs {
        // Sinks flush complete units; a single line of a drawing is not worth a system call.
        let (target, terminal): (Target, bool) = match path {
            None => (Box::new(BufWriter::new(io::stdout())), surroundings.terminal),
            Some(path) => (Box::new(BufWriter::new(create(path)?)), false),
        };
        let mut sink = (format.open)(target, surroundings.style(color, terminal));
        if let (true, Ok((columns, _))) = (terminal, ratatui::crossterm::terminal::size()) {
            sink.fit(columns);
        }
        sinks.push(sink);
    }
    Ok(sinks)
}

/// Asks for the parts of each start with `-v`.
pub(super) fn detail(sinks: &mut [Box<dyn Sink>], verbose: u8) {
    if verbose > 0 {
        sinks.iter_mut().for_each(|sink| sink.detailed());
    }
}

pub(super) fn create(path: &Path) -> Result<File, Failure> {
    record::create(path, Existing::Replace).map_err(|error| {
        let what = if matches!(error, CreateError::Io(_)) { "create" } else { "write to" };
        Failure::new(Exit::BadInput, format!("cannot {what} {}: {error}", named(path)), error.hint())
    })
}

/// Target of a recording that may be a message stream; true with it if it is one.
fn target(path: &Path, rotate: Option<Rotate>, nats: &Nats, queue: &Queue) -> Result<(RecordTarget, bool), Failure> {
    match stream::address(path)? {
        Some(address) => Ok((stream::target(&address, nats, queue)?, true)),
        None => Ok((place(path, rotate)?, false)),
    }
}

pub(super) fn place(path: &Path, rotate: Option<Rotate>) -> Result<RecordTarget, Failure> {
    if Address::is_meant(path) {
        return Err(Failure::usage("this command does not write to a message stream", "use `record` or `agent`"));
    }
    let place = match rotate {
        Some(_) if path == Path::new("-") => {
            return Err(Failure::usage("`--rotate` cannot write to stdout", "use a file name, or omit `--rotate`"));
        }
        Some(rotate) => RecordTarget::create_parts(path, rotate),
        None => RecordTarget::create(path),
    };
    place.map_err(|error| match &error {
        CreateError::Terminal => Failure::usage(format!("cannot record to stdout: {error}"), error.hint()),
        CreateError::Exists | CreateError::NotAFile(_) | CreateError::NotOwn(_) | CreateError::Io(_) => {
            Failure::new(Exit::BadInput, format!("cannot record to {}: {error}", named(path)), error.hint())
        }
    })
}

/// Gives up all files but these, for a command that reads recordings. `-` is stdin or stdout, which is open already.
pub(super) fn to_files(read: &[PathBuf], written: &[&Path]) {
    let read: Vec<&Path> = read.iter().map(PathBuf::as_path).collect();
    record::open_memory_count();
    confine::to_files(&read, written);
}

/// Paths in the values of `-o FORMAT=PATH`.
pub(super) fn paths(specs: &[OsString]) -> Vec<&Path> {
    let path = |spec: &'_ OsString| spec.as_bytes().iter().position(|byte| *byte == b'=').map(|equals| equals + 1);
    let paths = specs.iter().filter_map(|spec| spec.as_bytes().get(path(spec)?..));
    paths.map(|path| Path::new(OsStr::from_bytes(path))).collect()
}

/// Opens the sockets of the exporter; `None` if nothing is exported.
pub(super) fn exporter(args: &agent_args::Export) -> Result<Option<Exporter>, Failure> {
    let options = export::Options { metrics: args.metrics, otlp: args.otlp.clone() };
    if !options.is_any() {
        return Ok(None);
    }
    Exporter::new(&options).map(Some).map_err(|error| match error {
        ExportError::Listen(address, error) => Failure::new(
            Exit::BadInput,
            format!("cannot serve metrics at {address}: {error}"),
            "use an address of this host and a free port: `ss -ltn` lists the ports in use",
        ),
        ExportError::Receiver(text, error) => Failure::new(
            Exit::BadInput,
            format!("cannot send to the OTLP receiver {}: {error}", named(Path::new(&text))),
            "use its gRPC address, such as `127.0.0.1:4317`; names are looked up once, at the start",
        ),
    })
}

fn sinks_of(exporter: Option<&Exporter>) -> Vec<Box<dyn Sink>> {
    exporter.map(|exporter| Box::new(ExportSink::of(exporter)) as Box<dyn Sink>).into_iter().collect()
}

/// Opens the audit log.
pub(super) fn audit_log(args: &args::Audit) -> Result<Option<AuditLog>, Failure> {
    let Some(path) = args.audit_log.as_deref() else { return Ok(None) };
    AuditLog::open(path).map(Some).map_err(|error| {
        Failure::new(
            Exit::BadInput,
            format!("cannot read the audit log {}: {error}", named(path)),
            "use the file of kube-apiserver's option --audit-log-path",
        )
    })
}

/// Sets the places of the host's files. Returns the network namespace.
fn host(places: &args::Places) -> Result<Option<NetNs>, Failure> {
    host_files(&places.files)?;
    places.netns.as_deref().map(netns).transpose()
}

/// Sets the places of the host's files. Without options they stay the usual ones.
pub(super) fn host_files(args: &args::HostFiles) -> Result<(), Failure> {
    if *args == args::HostFiles::default() {
        return Ok(());
    }
    let usual = args.host_root.as_deref().map_or_else(HostPaths::default, HostPaths::below);
    let paths = HostPaths {
        proc: args.proc.clone().unwrap_or(usual.proc),
        sys: args.sys.clone().unwrap_or(usual.sys),
        btf: args.btf.clone(),
        root: usual.root,
    };
    let hint = "mount the host's directories into the container: `-v /:/host:ro`, then `--host-root /host`";
    paths.check().map_err(|error| Failure::usage(error.to_string(), hint))?;
    if !host_paths::set(paths) {
        tell("notice", "changed places of the host's files take effect after a restart");
    }
    Ok(())
}

fn netns(text: &OsStr) -> Result<NetNs, Failure> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(Failure::usage("`--netns` is empty", "use a name of `ip netns list`, a path, or a pid"));
    }
    if bytes.contains(&b'/') {
        return Ok(NetNs::Path(PathBuf::from(text)));
    }
    match text.to_str() {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|pid| *pid > 0).map(NetNs::Pid).ok_or_else(|| {
                Failure::usage(
                    format!("`--netns {digits}` is not a valid pid"),
                    "for a namespace with a numeric name, use its \
                                                                         path",
                )
            })
        }
        Some(name) if name != "." && name != ".." => Ok(NetNs::Name(name.to_owned())),
        Some(_) | None => Err(Failure::usage("`--netns` is not a valid name", "use a path such as /run/netns/NAME")),
    }
}

fn filter(args: args::Filter) -> Filter {
    let kinds = match args.kind {
        args::Kind::People => Kinds::People,
        args::Kind::All => Kinds::All,
        args::Kind::Exec => Kinds::Only(Kind::Exec),
        args::Kind::Attach => Kinds::Only(Kind::Attach),
        args::Kind::Debug => Kinds::Only(Kind::Debug),
        args::Kind::Cp => Kinds::Only(Kind::Cp),
        args::Kind::PortForward => Kinds::Only(Kind::PortForward),
        args::Kind::Logs => Kinds::Only(Kind::Logs),
        args::Kind::Local => Kinds::Only(Kind::Local),
        args::Kind::Probe => Kinds::Only(Kind::Probe),
        args::Kind::Start => Kinds::Only(Kind::Start),
        args::Kind::Request => Kinds::Only(Kind::Request),
    };
    let namespace = args.namespace.filter(|_| !args.all_namespaces);
    let server = args.server.map(|server| (server.address, server.port));
    Filter { namespace, pod: args.pod, container: args.container, server, kinds }
}

fn redactor(args: args::Privacy) -> Redactor {
    Redactor { no_args: args.no_args, patterns: args.redact, keep_secrets: args.no_redact_defaults }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_name_path_or_pid() {
        let is = |text: &str| netns(OsStr::new(text));
        assert_eq!(is("worker").unwrap(), NetNs::Name("worker".into()));
        assert_eq!(is("/run/netns/1").unwrap(), NetNs::Path("/run/netns/1".into()));
        assert_eq!(is("812").unwrap(), NetNs::Pid(812));
        for bad in ["", "0", "99999999999", ".."] {
            assert_eq!(is(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
