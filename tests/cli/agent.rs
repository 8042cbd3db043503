//! `execpath agent`: its configuration, and its life on a host that cannot be traced.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use execpath_tests::binary::{Ran, command, finish};

fn checked(config: &str, more: &[&str]) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agent.toml");
    fs::write(&path, config).expect("there is room");
    let mut ran = finish(command().args(["agent", "--check", "--config"]).arg(&path).args(more));
    ran.stderr = ran.stderr.replace(&*path.to_string_lossy(), "FILE");
    ran
}

#[test]
fn valid_configuration_passes_the_check() {
    let all = r#"
record = "/var/lib/execpath/node.jsonl.zst"
rotate = "100MB,24h,keep=7"
measure = "10s"
metrics = "127.0.0.1:9464"
redact = ["password=[^ ]*", "token=[^ ]*"]
no-args = true
no-memory = false
kubelet-port = 10251
verbose = 1
"#;
    let ran = checked(all, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "the configuration is valid\n"), "{}", ran.stderr);
    assert!(!Path::new("/var/lib/execpath/node.000001.jsonl.zst").exists(), "a check creates no file");
}

#[test]
fn wrong_configuration_is_one_line_and_a_hint() {
    let wrong = [
        ("metrcs = ':9464'", "FILE: unknown key `metrcs`", "a similar key exists: `metrics`"),
        ("xyz = 1", "FILE: unknown key `xyz`", "the keys are: "),
        ("check = true", "FILE: unknown key `check`", ""),
        ("metrics = true", "FILE: `metrics` is boolean, not a text or a number", "describes --metrics"),
        ("no-args = 'yes'", "FILE: `no-args` is string, not true or false", ""),
        ("metrics = 'nowhere'", "FILE: invalid value 'nowhere' for '--metrics <[IP]:PORT>'", ""),
        ("measure = '1ms'\nmetrics = ':0'", "FILE: invalid value '1ms' for '--measure <TIME>'", ""),
        ("[metrics]\naddress = 'x'", "FILE: `metrics` is table, not a text or a number", ""),
        ("metrics = ':1'\nmetrics = ':2'", "FILE, line 2: duplicate key", ""),
        ("metrics = ", "FILE, line 1: ", "write `key = value`"),
        ("record = 'nats://h/c'\nrotate = '1GB'", "FILE: `--rotate` is for files", "omit it"),
        ("record = '/x.jsonl'\nqueue = '/q'", "FILE: `--queue` is for the stream of a cluster", ""),
        ("record = 'nats://h/c'\nqueue = '/q'\nqueue-bytes = '9kB'", "FILE: invalid value '9kB'", ""),
        ("record = 'nats://h/c'\nqueue-bytes = '9MB'", "FILE: ", ""),
        ("redact = ['(']\nmetrics = ':0'", "FILE: invalid value '(' for '--redact <REGEX>'", ""),
    ];
    for (config, what, hint) in wrong {
        let ran = checked(config, &[]);
        assert!([Some(2), Some(5)].contains(&ran.code), "{config}: {ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{config}: {}", ran.stderr);
        assert!(lines[0].starts_with(&format!("error: {what}")), "{config}: {}", lines[0]);
        assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{config}: {}", lines[1]);
    }
    let large = format!("metrics = ':9464' # {}", "x".repeat(70_000));
    let ran = checked(&large, &[]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.stderr.starts_with("error: cannot read FILE: "), "{}", ran.stderr);
    let missing = finish(command().args(["agent", "--config", "/none/agent.toml"]));
    assert_eq!(missing.code, Some(5));
}

#[test]
fn command_line_goes_before_the_file() {
    // The file's address alone would be refused.
    let ran = checked("measure = '1ms'", &["--measure", "5s", "--metrics", "127.0.0.1:0"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn agent_without_work_is_a_usage_error() {
    let ran = checked("measure = '5s'", &[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("error: the agent has nothing to do"), "{}", ran.stderr);
}

#[test]
fn every_option_can_be_a_key() {
    let help = finish(command().args(["agent", "--help"])).stdout;
    let option = |line: &str| -> Option<String> {
        let line = line.trim_start();
        let is_option = line.strip_prefix('-').is_some_and(|rest| rest.starts_with('-') || rest.get(1..2) == Some(","));
        let name = is_option.then(|| line.split_once("--"))??.1;
        Some(name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect())
    };
    // Wrapped lines of descriptions may begin with an option of another program.
    let starts = |line: &&str| line.len() - line.trim_start().len() <= 6;
    let options: Vec<String> = help.lines().filter(starts).filter_map(option).collect();
    assert!(options.len() > 10, "{help}");
    let ran = checked("xyz = 1", &[]);
    for option in options.iter().filter(|option| !["config", "check", "help"].contains(&option.as_str())) {
        assert!(ran.stderr.contains(option.as_str()), "{option}: {}", ran.stderr);
    }
}

/// A running agent, killed on drop.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Running {
    /// Starts the agent on a host whose kernel shows no types.
    fn without_btf(config: &Path, notify: &Path) -> Self {
        let mut agent = std::process::Command::new("unshare");
        agent.args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\""]);
        agent.arg(execpath_tests::binary::path()).args(["agent", "--config"]).arg(config);
        agent.env("NOTIFY_SOCKET", notify).env("EXECPATH_STRICT_SANDBOX", "1");
        let mut child = agent.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("unshare runs");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// Reads lines up to one that contains these words, and returns it.
    fn line(&mut self, words: &str) -> String {
        let mut lines = self.lines.by_ref().map(|line| line.expect("text"));
        let found = lines.find(|line| line.contains(words));
        assert!(found.is_some(), "the agent ended without: {words}");
        found.unwrap_or_default()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill(2) reads and writes no memory; the child is not awaited yet, so its pid is its own.
        unsafe { libc::kill(i32::try_from(self.child.id()).expect("a pid"), signal) };
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("the endpoint reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// A kernel that cannot be traced must not restart a pod for ever.
#[test]
fn agent_stays_on_host_without_btf() {
    // SAFETY: geteuid(2) always succeeds.
    if unsafe { libc::geteuid() } != 0 || !Path::new("/sys/kernel/btf").exists() {
        return eprintln!("skipped: needs root to hide the kernel's types");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (config, notify): (PathBuf, PathBuf) = (folder.path().join("agent.toml"), folder.path().join("notify"));
    // A receiver that accepts and says nothing: it must not keep the agent from ending.
    let receiver = TcpListener::bind("127.0.0.1:0").expect("a port");
    let otlp = receiver.local_addr().expect("an address");
    fs::write(&config, format!("metrics = '127.0.0.1:0'\notlp = '{otlp}'\n")).expect("there is room");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    let mut buffer = [0; 500];
    let mut message = || {
        let bytes = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    };
    let mut agent = Running::without_btf(&config, &notify);
    let line = agent.line("agent: metrics: http://");
    let address = line.trim_start_matches("agent: metrics: http://").trim_end_matches("/metrics");
    let address: SocketAddr = address.parse().expect("an address");
    let reason = agent.line("not tracing");
    assert!(reason.contains("no-btf"), "{reason}");
    assert!(agent.line("hint: ").len() > 10);
    assert_eq!(message(), "READY=1\nSTATUS=not tracing: no-btf");
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics");
    for series in ["execpath_up 0", "execpath_unsupported{code=\"no-btf\"} 1", "process_cpu_seconds_total"] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    // A configuration that is not valid changes nothing.
    fs::write(&config, "metrcs = ':1'\n").expect("there is room");
    agent.signal(libc::SIGHUP);
    assert!(agent.line("the old configuration stays").contains("unknown key `metrcs`"));
    assert!(get(address, "/metrics").contains("execpath_up 0"));
    // A valid one is used.
    fs::write(&config, "metrics = '127.0.0.1:1'\nmeasure = '10s'\n").expect("there is room");
    agent.signal(libc::SIGHUP);
    assert!(message().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    agent.line("notice: changed addresses of exports take effect after a restart");
    agent.line("not tracing");
    assert_eq!(message(), "READY=1\nSTATUS=not tracing: no-btf");
    agent.signal(libc::SIGTERM);
    assert_eq!(message(), "STOPPING=1");
    assert_eq!(agent.child.wait().expect("it ends").code(), Some(0));
    // The strict sandbox kills at a forbidden call: connecting is none.
    receiver.set_nonblocking(true).expect("a socket");
    assert!(receiver.accept().is_ok(), "the last metrics were sent");
}

#[test]
fn used_address_is_an_error_with_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ran = finish(command().args(["agent", "--metrics", &address]));
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("cannot serve metrics at {address}: ")), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: use an address of this host and a free port"), "{}", ran.stderr);
}
