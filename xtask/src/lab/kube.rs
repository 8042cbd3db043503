//! Sources of kube-apiserver and kubelet.
//!
//! Debian ships no binaries of them, only the source of 1.20: the last series with a kubelet that also speaks to
//! dockerd itself. The lab builds the programs once and caches them.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::version::Version;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::tools::{command, is_program, run, shown};
use crate::{apt, cache};

const PROGRAMS: [&str; 2] = ["kube-apiserver", "kubelet"];

/// A directory with both programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kube {
    pub(super) dir: PathBuf,
    pub(super) version: Version,
}

impl Kube {
    /// Uses `$KUBE_BIN` if set, else the cache. Builds into the cache if the cache is empty.
    pub(super) fn ensure(progress: &Progress) -> Result<Self> {
        if let Some(dir) = env::var_os("KUBE_BIN").filter(|dir| !dir.is_empty()) {
            let dir = std::path::absolute(dir)?;
            if let Some(name) = PROGRAMS.into_iter().find(|name| !is_program(&dir.join(name))) {
                let what = format!("no {name} in {} ($KUBE_BIN)", dir.display());
                return Err(hinted(what, "put both kube-apiserver and kubelet there, or unset KUBE_BIN"));
            }
            return Self::at(dir);
        }
        let dir = cache::dir("execpath-lab")?.join("kube-1.20");
        if !PROGRAMS.iter().all(|name| is_program(&dir.join(name))) {
            build(&dir, progress)?;
        }
        Self::at(dir)
    }

    /// Path of a program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn at(dir: PathBuf) -> Result<Self> {
        let output = run(command(dir.join("kubelet")).arg("--version"))?;
        let version = version_of(&output, env::var("KUBE_MINOR").ok().as_deref(), &dir).ok_or_else(|| {
            let what = format!("the kubelet in {} reports its version as \"{}\"", dir.display(), output.trim());
            hinted(what, "set KUBE_MINOR, for example KUBE_MINOR=20 for 1.20")
        })?;
        Ok(Self { dir, version })
    }
}

/// The Kubernetes version: from the kubelet's output or, for a build without a version (0.0), from `KUBE_MINOR` or
/// the directory's name.
fn version_of(output: &str, minor: Option<&str>, dir: &Path) -> Option<Version> {
    let reported = Version::find_in(output).filter(|version| version.major > 0);
    let minor = || minor?.parse().ok().map(Version::one);
    let named = || Version::find_in(dir.file_name()?.to_str()?);
    reported.or_else(minor).or_else(named)
}

/// Builds from Debian's source package. Without apt-get, the hint names `KUBE_BIN`: the only way on other systems.
fn build(out: &Path, progress: &Progress) -> Result<()> {
    if crate::tools::find("apt-get").is_none() {
        return Err(hinted(
            "no kube-apiserver and kubelet, and no apt-get to build Debian's",
            "set KUBE_BIN to a directory that holds both, of any version",
        ));
    }
    apt::install(&missing_tools(), progress)?;
    let work = cache::beside(out, ".build");
    let log = cache::beside(out, ".build.log");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    fs::create_dir_all(&work)?;
    File::create(&log)?;
    progress
        .report("building kube-apiserver and kubelet 1.20 from Debian's source: only once; ten minutes on two cores");
    progress.report(format!("log: {}", log.display()));

    let steps = Build { log, progress };
    let apt = PrivateApt::new(&work.join("apt"))?;
    steps.run("reading source lists", apt.command().args(["update"]))?;
    let fetch = ["source", "--download-only", "kubernetes"];
    steps.run("fetching the source", apt.command().args(fetch).current_dir(&work))?;
    let source = work.join("gopath/src/k8s.io/kubernetes");
    fs::create_dir_all(&source)?;
    let archive = archive(&work)?;
    steps
        .run("unpacking", command("tar").arg("-xf").arg(&archive).args(["--strip-components=1", "-C"]).arg(&source))?;

    let version = archive.file_name().and_then(|name| upstream_version(name.to_str()?));
    let version = version.with_context(|| format!("no version in the name of {}", archive.display()))?;
    let go = |program: &str| {
        let mut go = command(program);
        go.current_dir(&source).env("GOPATH", work.join("gopath")).env("GOCACHE", work.join("gocache"));
        go.env("GO111MODULE", "off").env("GOPROXY", "off").env("CGO_ENABLED", "0").env("GOFLAGS", "");
        go
    };
    steps.run("generating code", go("make").arg("generated_files"))?;
    let built = work.join("out");
    for name in PROGRAMS {
        let mut build = go("go");
        build.args(["build", "-ldflags", &version_flags(version)?, "-o"]).arg(built.join(name));
        steps.run(&format!("building {name}"), build.arg(format!("./cmd/{name}")))?;
    }
    fs::create_dir_all(out)?;
    for name in PROGRAMS {
        fs::rename(built.join(name), out.join(name))?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

fn missing_tools() -> Vec<&'static str> {
    let tools = [("go", "golang-go"), ("rsync", "rsync"), ("jq", "jq"), ("make", "make"), ("gcc", "gcc")];
    tools.into_iter().filter(|(program, _)| crate::tools::find(program).is_none()).map(|(_, package)| package).collect()
}

/// Linker flags that stamp the version, as upstream's own build does. Without them the binaries report 0.0.
fn version_flags(version: &str) -> Result<String> {
    let at = "k8s.io/kubernetes/vendor/k8s.io/component-base/version";
    let Version { major, minor } = version.parse()?;
    Ok(format!("-X {at}.gitVersion=v{version} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"))
}

/// Upstream version in the name of a Debian source archive: `1.20.5+really1.20.2` means 1.20.2.
fn upstream_version(archive: &str) -> Option<&str> {
    let version = archive.strip_prefix("kubernetes_")?.split(".orig.").next()?;
    let version = version.rsplit("really").next()?;
    version.split(['+', '~']).next()
}

fn archive(dir: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(dir)? {
        let file = entry?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("kubernetes_") && name.contains(".orig.tar.") && !name.ends_with(".asc") {
            return Ok(file);
        }
    }
    bail!("apt-get source left no kubernetes_*.orig.tar.* in {}", dir.display())
}

/// Runs the steps of a long build. Output goes to a log, progress is printed now and then, and every exit status is
/// checked.
struct Build<'a> {
    log: PathBuf,
    progress: &'a Progress,
}

impl Build<'_> {
    fn run(&self, what: &str, step: &mut Command) -> Result<()> {
        self.progress.report(what);
        let log = File::options().append(true).open(&self.log)?;
        step.stdout(log.try_clone()?).stderr(log);
        let mut child = step.spawn().with_context(|| format!("cannot start {}", shown(step)))?;
        let mut last_line = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            thread::sleep(Duration::from_millis(300));
            if last_line.elapsed() > Duration::from_secs(30) {
                last_line = Instant::now();
                self.progress.report(format!("still {what}"));
            }
        };
        if !status.success() {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let what = format!("{what}: {}: {status}\n{}", shown(step), last_lines(&text, 15));
            return Err(hinted(what, format!("full log: {}; or set KUBE_BIN", self.log.display())));
        }
        Ok(())
    }
}

/// The last `count` lines of a log.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// apt with its own lists, in which the machine's Debian sources are source packages. Many machines have no deb-src
/// line, and the lab must not change their configuration.
struct PrivateApt {
    dir: PathBuf,
}

impl PrivateApt {
    fn new(dir: &Path) -> Result<Self> {
        let parts = dir.join("parts");
        fs::create_dir_all(&parts)?;
        fs::create_dir_all(dir.join("lists/partial"))?;
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
        let mut found = false;
        for file in files {
            let (Ok(text), Some(name)) = (fs::read_to_string(&file), file.file_name()) else { continue };
            let text = match file.extension().and_then(|ext| ext.to_str()) {
                Some("list") => as_source_list(&text),
                Some("sources") => as_source_stanzas(&text),
                Some(_) | None => continue,
            };
            found |= !text.is_empty();
            fs::write(parts.join(name), text)?;
        }
        if !found {
            let hint = "set KUBE_BIN to a directory that holds kube-apiserver and kubelet";
            return Err(hinted("no Debian package source in /etc/apt", hint));
        }
        Ok(Self { dir: dir.to_owned() })
    }

    fn command(&self) -> Command {
        let mut apt = command("apt-get");
        for (option, value) in [
            ("Dir::Etc::sourcelist", PathBuf::from("/dev/null")),
            ("Dir::Etc::sourceparts", self.dir.join("parts")),
            ("Dir::State::lists", self.dir.join("lists")),
            ("Dir::Cache::pkgcache", PathBuf::new()),
            ("Dir::Cache::srcpkgcache", PathBuf::new()),
        ] {
            apt.arg("-o").arg(format!("{option}={}", value.display()));
        }
        apt.arg("-q");
        apt
    }
}

/// Converts Debian's one-line entries from `deb …` to `deb-src …`.
fn as_source_list(text: &str) -> String {
    let entries = text.lines().filter_map(|line| line.trim().strip_prefix("deb ")).filter(|it| it.contains("debian"));
    entries.map(|entry| format!("deb-src {entry}\n")).collect()
}

/// Converts Debian's stanzas from `Types: deb` to `Types: deb-src`.
fn as_source_stanzas(text: &str) -> String {
    let mut sources = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned))
        };
        let types = field("types:").unwrap_or_default();
        if types.split_whitespace().any(|it| it == "deb") && field("uris:").is_some_and(|it| it.contains("debian")) {
            let lines = stanza
                .lines()
                .map(|line| if line.to_ascii_lowercase().starts_with("types:") { "Types: deb-src" } else { line });
            sources.push(lines.collect::<Vec<_>>().join("\n"));
        }
    }
    if sources.is_empty() { String::new() } else { sources.join("\n\n") + "\n" }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{as_source_list, as_source_stanzas, last_lines, upstream_version, version_flags, version_of};
    use crate::lab::version::Version;

    #[test]
    fn unversioned_kubelet_takes_version_from_env_or_path() {
        let unknown = "Kubernetes v0.0.0-master+faecb196815e2\n";
        assert_eq!(version_of("Kubernetes v1.36.1\n", Some("20"), Path::new("/x")), Some(Version::one(36)));
        assert_eq!(version_of(unknown, Some("22"), Path::new("/x/kube-1.20")), Some(Version::one(22)));
        assert_eq!(version_of(unknown, None, Path::new("/x/kube-1.20")), Some(Version::one(20)));
        assert_eq!(version_of(unknown, None, Path::new("/x/bin")), None);
    }

    #[test]
    fn debian_entries_become_source_entries() {
        let list =
            "# deb http://a/debian x main\ndeb [signed-by=/k] http://a/debian bookworm main\ndeb http://b/other x y\n";
        assert_eq!(as_source_list(list), "deb-src [signed-by=/k] http://a/debian bookworm main\n");
    }

    #[test]
    fn debian_stanzas_become_source_stanzas() {
        let text =
            "Types: deb\n# a comment\nURIs: http://a/debian\nSuites: bookworm\n\nTypes: deb\nURIs: http://b/other\n";
        assert_eq!(as_source_stanzas(text), "Types: deb-src\n# a comment\nURIs: http://a/debian\nSuites: bookworm\n");
        assert_eq!(as_source_stanzas("Types: deb-src\nURIs: http://a/debian\n"), "");
    }

    #[test]
    fn archive_name_yields_real_version() {
        assert_eq!(upstream_version("kubernetes_1.20.5+really1.20.2.orig.tar.gz"), Some("1.20.2"));
        assert_eq!(upstream_version("kubernetes_1.32.3+ds.orig.tar.xz"), Some("1.32.3"));
        assert!(version_flags("1.20.2").expect("a version").contains("gitVersion=v1.20.2 "));
    }

    #[test]
    fn last_lines_returns_end_of_log() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
