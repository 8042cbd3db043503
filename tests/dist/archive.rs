//! The archive, and the kubectl plugin as krew installs it.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{artefact, run, succeed};

/// Value of the first line `NAME: VALUE` of the manifest.
fn field<'a>(manifest: &'a str, name: &str) -> &'a str {
    let mut lines = manifest.lines().map(str::trim_start);
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect("a field of the manifest")
}

/// Installs the plugin as krew does: compares the sum, unpacks the archive, takes the files of the manifest, and links the
/// program as `kubectl-NAME` into a directory on PATH.
fn install() -> (TempDir, PathBuf) {
    let manifest = fs::read_to_string(artefact("execpath.yaml")).expect("a manifest");
    let mut platforms = manifest.split("  - selector:\n");
    let platform = platforms.find(|platform| platform.contains("arch: amd64\n")).expect("this architecture");
    let archive = artefact("-linux-amd64.tar.gz");
    let sum = run("sha256sum", [&archive]);
    assert!(sum.starts_with(field(platform, "sha256")), "{sum}");
    let uri = field(platform, "uri");
    assert!(uri.ends_with(&format!("/{}", archive.file_name().expect("a name").to_string_lossy())), "{uri}");
    let home = tempfile::tempdir().expect("a folder");
    let (unpacked, store, bin) = (home.path().join("unpacked"), home.path().join("store"), home.path().join("bin"));
    for folder in [&unpacked, &store, &bin] {
        fs::create_dir(folder).expect("a folder");
    }
    succeed(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&unpacked));
    for from in platform.lines().filter_map(|line| line.trim_start().strip_prefix("- from: ")) {
        let begin = from.trim_end_matches('*');
        let mut taken = 0;
        for entry in fs::read_dir(&unpacked).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == from || (from.ends_with('*') && name.starts_with(begin)) {
                fs::rename(entry.path(), store.join(name)).expect("a file can be moved");
                taken += 1;
            }
        }
        assert!(taken > 0, "the archive has no {from}");
    }
    let name = format!("kubectl-{}", field(&manifest, "name"));
    symlink(store.join(field(platform, "bin")), bin.join(name)).expect("a link");
    (home, bin)
}

fn kubectl(bin: &Path, words: &[&str]) -> Command {
    let mut kubectl = Command::new("kubectl");
    let mut dirs = vec![bin.to_owned()];
    dirs.extend(env::split_paths(&env::var_os("PATH").expect("PATH")));
    kubectl.args(words).env("PATH", env::join_paths(dirs).expect("a path")).env("HOME", bin);
    kubectl
}

#[test]
fn plugin_runs_under_kubectl() {
    let (_home, bin) = install();
    assert!(succeed(&mut kubectl(&bin, &["plugin", "list"])).contains("kubectl-execpath"));
    let version = succeed(&mut kubectl(&bin, &["execpath", "--version"]));
    assert_eq!(version, format!("execpath {}\n", env!("CARGO_PKG_VERSION")));
    let help = succeed(&mut kubectl(&bin, &["execpath", "ls", "--help"]));
    assert!(help.contains("kubectl execpath ls"), "{help}");
}

#[test]
fn kubectl_completes_plugin() {
    let (home, bin) = install();
    // kubectl before 1.26 has no completion of plugins.
    let version = succeed(&mut kubectl(&bin, &["version", "--client", "--output=json"]));
    let minor = version.split("\"minor\": \"").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let minor: u32 = minor.and_then(|minor| minor.parse().ok()).expect("a minor version");
    if minor < 26 {
        eprintln!("skipped: kubectl 1.{minor} completes no plugins");
        return;
    }
    symlink(home.path().join("store/execpath"), bin.join("kubectl_complete-execpath")).expect("a link");
    let commands = succeed(&mut kubectl(&bin, &["__complete", "execpath", "sh"]));
    assert!(commands.lines().any(|line| line.starts_with("show\t")), "{commands}");
    let options = succeed(&mut kubectl(&bin, &["__complete", "execpath", "record", "--rot"]));
    assert!(options.lines().any(|line| line.starts_with("--rotate\t")), "{options}");
    assert_eq!(options.lines().last(), Some(":4"), "{options}");
}

#[test]
fn archive_has_pages_completions_and_licences() {
    let list = succeed(Command::new("tar").arg("-tzf").arg(artefact("-linux-amd64.tar.gz")));
    for file in
        ["execpath", "kubectl_complete-execpath", "LICENSE-MIT", "man/execpath-trace.1", "completions/_execpath"]
    {
        assert!(list.lines().any(|line| line == file), "{file} is missing in\n{list}");
    }
}
