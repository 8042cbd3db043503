//! Packages of other Debian suites and architectures. Each suite and architecture has an apt configuration of its own in
//! the cache, so this machine's package lists and installed packages do not matter and do not change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::guests::Arch;
use crate::cache;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::tools::{command, run};

/// Debian's keys, which sign the lists of every suite.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite of Debian for one architecture.
pub(super) struct Suite {
    name: &'static str,
    arch: Arch,
    dir: PathBuf,
}

impl Suite {
    /// Opens the suite. Its lists are downloaded at the first use.
    pub(super) fn open(name: &'static str, arch: Arch) -> Result<Self> {
        let dir = cache::dir("execpath")?.join("apt").join(format!("{name}-{}", arch.debian()));
        Ok(Self { name, arch, dir })
    }

    /// A command with this suite's configuration.
    fn apt(&self, program: &str) -> Command {
        let mut apt = command(program);
        let at = |name: &str| self.dir.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={}", self.dir.display()),
            format!("Dir::State::lists={}", at("lists")),
            // An empty list: nothing is installed, so dependencies are complete.
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            // The image's configuration may remove packages after a download.
            "APT::Keep-Downloaded-Packages=true".to_owned(),
            format!("APT::Architecture={}", self.arch.debian()),
            format!("APT::Architectures={}", self.arch.debian()),
            "APT::Sandbox::User=".to_owned() + &std::env::var("USER").unwrap_or_else(|_| "root".to_owned()),
            "Acquire::Languages=none".to_owned(),
        ] {
            apt.args(["-o", &option]);
        }
        apt
    }

    fn has_lists(&self) -> bool {
        let entries = fs::read_dir(self.dir.join("lists"));
        entries.is_ok_and(|mut all| {
            all.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
        })
    }

    /// Downloads the lists.
    fn update(&self, progress: &Progress) -> Result<()> {
        progress.report(format!("reading the package lists of {} {}", self.name, self.arch.debian()));
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.dir.join(folder))?;
        }
        fs::write(self.dir.join("status"), "")?;
        let mut sources = String::new();
        for (mirror, suffix) in mirrors()? {
            // Security updates exist for released suites only.
            if suffix.is_empty() || self.name == "bookworm" {
                sources += &format!("deb [signed-by={KEYS}] {mirror} {}{suffix} main\n", self.name);
            }
        }
        fs::write(self.dir.join("sources.list"), sources)?;
        run(self.apt("apt-get").args(["update", "-qq"])).map(drop)
    }

    /// Names of packages that begin with `prefix`.
    pub(super) fn names(&self, prefix: &str, progress: &Progress) -> Result<Vec<String>> {
        if !self.has_lists() {
            self.update(progress)?;
        }
        let names = run(self.apt("apt-cache").args(["--generate", "pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads packages with their dependencies, and unpacks them into a directory of the cache. `name` is the
    /// directory's name; an existing directory is used as it is.
    pub(super) fn unpack(&self, name: &str, packages: &[&str], progress: &Progress) -> Result<PathBuf> {
        self.unpack_by(
            name,
            packages,
            &["install", "-y", "-qq", "--no-install-recommends", "--download-only"],
            progress,
        )
    }

    /// Like [`Self::unpack`], without dependencies.
    pub(super) fn unpack_alone(&self, name: &str, packages: &[&str], progress: &Progress) -> Result<PathBuf> {
        self.unpack_by(name, packages, &["download", "-qq"], progress)
    }

    fn unpack_by(&self, name: &str, packages: &[&str], action: &[&str], progress: &Progress) -> Result<PathBuf> {
        let dir = self.dir.join("unpacked").join(name);
        if dir.exists() {
            return Ok(dir);
        }
        progress.report(format!("downloading {} of {} {}", packages.join(" "), self.name, self.arch.debian()));
        let archives = self.dir.join("archives").join(name);
        fs::create_dir_all(&archives)?;
        let fetch = || {
            let mut apt = self.apt("apt-get");
            apt.arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
            fs::create_dir_all(archives.join("partial"))?;
            run(apt.args(action).args(packages).current_dir(&archives))
        };
        if !self.has_lists() {
            self.update(progress)?;
        }
        // A package that is gone from the archive leaves an outdated list behind.
        fetch().or_else(|_| self.update(progress).and_then(|()| fetch()))?;
        // Move the directory only when it is complete: the cache is used without checks.
        let work = cache::beside(&dir, ".new");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir_all(&work)?;
        let mut count = 0;
        for entry in fs::read_dir(&archives)? {
            let file = entry?.path();
            if file.extension().is_some_and(|end| end == "deb") {
                run(command("dpkg-deb").arg("-x").arg(&file).arg(&work))?;
                count += 1;
            }
        }
        ensure!(count > 0, "apt downloaded no package for {}", packages.join(" "));
        fs::rename(&work, &dir)?;
        fs::remove_dir_all(&archives)?;
        Ok(dir)
    }
}

/// Mirrors of this machine's own configuration: Debian's archive, and its security updates with the suffix of their
/// suites.
fn mirrors() -> Result<Vec<(String, &'static str)>> {
    let mut apt = command("apt-get");
    apt.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]);
    let found = parse_mirrors(&run(&mut apt)?);
    if found.is_empty() {
        return Err(hinted("apt knows no mirror of Debian", "apt-get update, on Debian"));
    }
    Ok(found)
}

fn parse_mirrors(text: &str) -> Vec<(String, &'static str)> {
    let mirror = |label: &str| {
        let mut rows = text.lines().filter_map(|line| line.split_once(' '));
        rows.find(|(of, _)| *of == label).map(|(_, uri)| uri.to_owned())
    };
    let archive = mirror("Debian").map(|uri| (uri, ""));
    let security = mirror("Debian-Security").map(|uri| (uri, "-security"));
    archive.into_iter().chain(security).collect()
}

/// The only file or directory in `dir` whose name begins with `prefix`.
pub(super) fn entry(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("no {prefix}… in {}", dir.display())
}

#[cfg(test)]
mod tests {
    use super::parse_mirrors;

    #[test]
    fn mirrors_are_read_by_label() {
        let text = "Other http://other.test/\nDebian http://a.test/debian/\nDebian http://b.test/debian/\n\
                    Debian-Security http://a.test/security/\n";
        let expected =
            vec![("http://a.test/debian/".to_owned(), ""), ("http://a.test/security/".to_owned(), "-security")];
        assert_eq!(parse_mirrors(text), expected);
        assert_eq!(parse_mirrors(""), []);
    }
}
