//! Go programs for tests, built with this machine's Go and other versions, or built before.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    rc::Rc,
};

use execpath::model::Program;

/// Environment variable with paths of other `go` programs, separated as in PATH. `cargo xtask test` sets it.
const VARIABLE: &str = "EXECPATH_GO";
/// Environment variable with a directory of programs built before, `go1.26.6/relay`: on machines without Go.
const BUILT: &str = "EXECPATH_GO_PROGRAMS";

/// A Go toolchain, or the programs that it built.
#[derive(Clone, Debug)]
pub(crate) struct Go {
    path: PathBuf,
    /// `go1.26.6`
    pub(crate) version: String,
}

impl Go {
    /// Versions with programs built before, the oldest first.
    fn built(folder: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder).expect("the folder of built programs").flatten();
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut all: Vec<Self> = entries.map(|entry| Self { path: entry.path(), version: name(entry) }).collect();
        all.sort_by_key(Self::minor);
        all
    }

    fn at(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        let output = command(&path).args(["env", "GOVERSION"]).output().ok()?;
        let version = String::from_utf8(output.stdout).expect("text").trim().to_owned();
        Some(Self { path, version })
    }

    fn minor(&self) -> u32 {
        let minor = self.version.strip_prefix("go1.").and_then(|rest| rest.split('.').next());
        minor.and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("not a version of Go: {}", self.version))
    }

    /// True for Go 1.`minor` or later.
    pub(crate) fn is_since(&self, minor: u32) -> bool {
        self.minor() >= minor
    }

    /// Toolchains from Go 1.`minor` on: this machine's, and those named in the environment. Prints a notice if there is
    /// none.
    pub(crate) fn since(minor: u32) -> Vec<Self> {
        let named = std::env::var_os(VARIABLE).unwrap_or_default();
        let all: Vec<Self> = match std::env::var_os(BUILT) {
            Some(folder) => Self::built(Path::new(&folder)),
            None => {
                [PathBuf::from("go")].into_iter().chain(std::env::split_paths(&named)).filter_map(Self::at).collect()
            }
        };
        let new: Vec<Self> = all.into_iter().filter(|go| go.is_since(minor)).collect();
        if new.is_empty() {
            assert!(std::env::var_os("CI").is_none(), "CI must have Go 1.{minor} or later");
            eprintln!("skipped: no Go 1.{minor} or later here: `cargo xtask test --only kernel` gets one");
        }
        new
    }

    /// The program version that the tracer derives from a binary of this toolchain.
    pub(crate) fn program(&self) -> Program {
        Program::Go(self.version.clone())
    }
}

/// A `go` command that neither switches to another toolchain nor uses the network.
fn command(path: &Path) -> Command {
    let mut go = Command::new(path);
    go.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local")]);
    go
}

/// The binary of a program in `tests/kernel/go`.
pub(crate) struct GoBinary {
    program: PathBuf,
    /// The folder of a program built now.
    _folder: Option<tempfile::TempDir>,
}

impl GoBinary {
    pub(crate) fn of(go: &Go, source: &str) -> Self {
        if go.path.is_dir() {
            return Self { program: go.path.join(source.trim_end_matches(".go")), _folder: None };
        }
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel/go");
        let streaming = ["streams.go", "translator.go"].contains(&source).then_some("streaming.go");
        let mut build = command(&go.path);
        build.args(["build", "-o"]).arg(&program);
        build.args([source, "common.go"].into_iter().chain(streaming).map(|file| sources.join(file)));
        let status = build.status().expect("go starts");
        assert!(status.success(), "{} does not build the program", go.version);
        Self { program, _folder: Some(folder) }
    }
}

/// A running program of `tests/kernel/go`.
pub(crate) struct GoProgram {
    process: Child,
    /// Address on which the program listens.
    pub(crate) address: SocketAddr,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    _binary: Rc<GoBinary>,
}

impl GoProgram {
    pub(crate) fn start(go: &Go, source: &str, arguments: &[&str]) -> Self {
        Self::run(&Rc::new(GoBinary::of(go, source)), arguments)
    }

    pub(crate) fn run(binary: &Rc<GoBinary>, arguments: &[&str]) -> Self {
        let mut process = Command::new(&binary.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let to = process.stdin.take().expect("stdin");
        let mut from = BufReader::new(process.stdout.take().expect("stdout"));
        let mut line = String::new();
        from.read_line(&mut line).expect("the program prints its address");
        let address = line.trim().parse().expect("an address");
        Self { process, address, to, from, _binary: Rc::clone(binary) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Words of the next line on the program's stdout.
    pub(crate) fn words(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the program's stdout");
        assert!(!line.is_empty(), "the program died");
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Sends a command, and waits until the program has done it.
    pub(crate) fn request(&mut self, line: &str) {
        writeln!(self.to, "{line}").expect("the program listens");
        assert_eq!(self.words(), ["done"], "{line}");
    }
}

impl Drop for GoProgram {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}
