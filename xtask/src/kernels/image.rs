//! The initramfs of a guest: Debian's user space, the kernel's modules, execpath, and its tests.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _};
use sha2::{Digest as _, Sha256};

use super::guests::Arch;
use super::packages::Suite;
use super::programs::Built;
use crate::progress::Progress;
use crate::tools::{command, run};

/// The suite of the user space: that of the machine which builds the test programs.
const SUITE: &str = "bookworm";

/// Packages of the user space, apart from their dependencies.
const PACKAGES: [&str; 11] = [
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "iproute2",
    "iptables",
    "libgcc-s1",
    "mount",
    "procps",
    "sed",
    "util-linux",
];

/// Programs that init or tests call. Names after an arrow are links.
const PROGRAMS: [(&str, &[&str]); 29] = [
    ("bin/busybox", &[]),
    ("bin/bash", &[]),
    ("bin/dash", &["bin/sh"]),
    ("bin/cat", &[]),
    ("bin/echo", &[]),
    ("bin/kill", &[]),
    ("bin/ls", &[]),
    ("bin/mkdir", &[]),
    ("bin/mount", &[]),
    ("bin/mv", &[]),
    ("bin/rm", &[]),
    ("bin/umount", &[]),
    ("bin/cp", &[]),
    ("bin/ln", &[]),
    ("bin/ps", &[]),
    ("bin/sed", &[]),
    ("bin/sleep", &[]),
    ("bin/true", &[]),
    ("sbin/ip", &["bin/ip"]),
    ("bin/ss", &[]),
    ("usr/bin/cut", &[]),
    ("usr/bin/env", &[]),
    ("usr/bin/pgrep", &[]),
    ("usr/bin/seq", &[]),
    ("usr/bin/setpriv", &[]),
    ("usr/bin/unshare", &[]),
    ("usr/bin/nsenter", &[]),
    ("usr/bin/id", &[]),
    ("usr/sbin/xtables-nft-multi", &["usr/sbin/iptables"]),
];

/// Modules that tests need, without those they depend on. A module that is missing or built in is left out.
const MODULES: [&str; 11] = [
    "inet_diag",
    "tcp_diag",
    "unix_diag",
    "veth",
    "nf_tables",
    "nft_compat",
    "nft_chain_nat",
    "xt_nat",
    "xt_MASQUERADE",
    "xt_tcpudp",
    "iptable_nat",
];

/// Contents of a guest besides the kernel's and execpath's.
pub(super) struct Jobs<'a> {
    /// Lines of the job list: kind, name, seconds, command.
    pub(super) lines: &'a str,
    /// Patterns of tests to run.
    pub(super) only: &'a [String],
    /// Patterns of tests that cannot run in a guest.
    pub(super) skip: &'a [&'a str],
}

/// Unpacks the user space of an architecture.
pub(super) fn user_space(arch: Arch, progress: &Progress) -> Result<PathBuf> {
    // Another list of packages is another directory of the cache.
    let digest = Sha256::digest(PACKAGES.join(" "));
    let name = digest.iter().take(4).fold("user-space-".to_owned(), |name, byte| format!("{name}{byte:02x}"));
    Suite::open(SUITE, arch)?.unpack(&name, &PACKAGES, progress)
}

/// Assembles an initramfs in `file`.
pub(super) fn assemble(
    file: &Path,
    (arch, kernel, user): (Arch, &Path, &Path),
    built: &Built,
    jobs: &Jobs<'_>,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = Root { arch, user, dir: folder.path().to_owned() };
    for name in ["bin", "sbin", "usr/bin", "usr/sbin", "dev", "proc", "sys", "run", "tmp", "root", "etc", "var/lib"] {
        fs::create_dir_all(root.dir.join(name))?;
    }
    for (program, links) in PROGRAMS {
        root.program(&user.join(program), program)?;
        for link in links {
            symlink(Path::new("/").join(program), root.dir.join(link))?;
        }
    }
    root.folder(&user.join("usr/lib").join(arch.triplet()).join("xtables"))?;
    root.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
    root.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    root.text("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    root.text("init", include_str!("init.sh"))?;
    fs::set_permissions(root.dir.join("init"), fs::Permissions::from_mode(0o755))?;
    root.modules(kernel)?;

    root.program(&built.execpath, "tests/execpath")?;
    symlink("/tests/execpath", root.dir.join("bin/execpath"))?;
    for (name, test) in &built.tests {
        // Tests look for execpath in the directory above their own.
        root.program(test, &format!("tests/deps/{name}"))?;
    }
    let mut environment = "export EXECPATH_GO_PROGRAMS=/tests/go\n".to_owned();
    for (version, program, path) in &built.go {
        root.copy(path, &format!("tests/go/{version}/{program}"))?;
    }
    if let Some(object) = std::env::var_os("EXECPATH_BPF") {
        root.copy(Path::new(&object), "tests/object.bpf")?;
        environment += "export EXECPATH_BPF=/tests/object.bpf\n";
    }
    root.text("tests/environment", &environment)?;
    root.text("tests/console", if arch == Arch::X86_64 { "ttyS0\n" } else { "ttyAMA0\n" })?;
    root.text("tests/jobs", jobs.lines)?;
    root.text("tests/only", &(jobs.only.join("\n") + "\n"))?;
    root.text("tests/skip", &(jobs.skip.join("\n") + "\n"))?;
    pack(&root.dir, file)
}

/// Packs a directory in the format that the kernel unpacks.
fn pack(dir: &Path, file: &Path) -> Result<()> {
    let image = fs::File::create(file).with_context(|| file.display().to_string())?;
    let mut cpio = command("sh");
    // Compression would cost the guest more time than it saves.
    cpio.args(["-c", "find . | sort | cpio --quiet --owner=0:0 -o -H newc"]).current_dir(dir).stdout(image);
    ensure!(cpio.stderr(Stdio::inherit()).status()?.success(), "cannot pack {}", file.display());
    Ok(())
}

/// The root directory of a guest, under construction.
struct Root<'a> {
    arch: Arch,
    user: &'a Path,
    dir: PathBuf,
}

impl Root<'_> {
    fn text(&self, name: &str, text: &str) -> Result<()> {
        let file = self.dir.join(name);
        fs::create_dir_all(file.parent().context("a file has a directory")?)?;
        fs::write(&file, text).with_context(|| file.display().to_string())
    }

    fn copy(&self, from: &Path, name: &str) -> Result<()> {
        let file = self.dir.join(name);
        fs::create_dir_all(file.parent().context("a file has a directory")?)?;
        fs::copy(from, &file).with_context(|| format!("cannot copy {}", from.display())).map(drop)
    }

    fn folder(&self, from: &Path) -> Result<()> {
        let name = from.strip_prefix(self.user)?.to_owned();
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let entry = entry?.path();
            self.program(&entry, &name.join(entry.file_name().unwrap_or_default()).to_string_lossy())?;
        }
        Ok(())
    }

    /// Copies a program or library, its interpreter, and the libraries that it needs.
    fn program(&self, from: &Path, name: &str) -> Result<()> {
        self.copy(from, name)?;
        let mut queue = vec![from.to_owned()];
        while let Some(file) = queue.pop() {
            let linked = linked(&file).with_context(|| file.display().to_string())?;
            let libraries = linked.libraries.into_iter().map(|name| format!("lib/{}/{name}", self.arch.triplet()));
            for library in linked.interpreter.into_iter().chain(libraries) {
                if self.dir.join(&library).exists() {
                    continue;
                }
                let from = [self.user.join(&library), self.user.join("usr").join(&library)];
                let from = from.into_iter().find(|file| file.exists());
                // The interpreter is a link in some packages, named after the library in others.
                let by_name =
                    || super::packages::entry(&self.user.join("lib").join(self.arch.triplet()), base(&library));
                let from =
                    from.map_or_else(by_name, Ok).with_context(|| format!("{} needs {library}", file.display()))?;
                self.copy(&from, &library)?;
                queue.push(from);
            }
        }
        Ok(())
    }

    /// Copies the modules in the order in which they can be loaded.
    fn modules(&self, kernel: &Path) -> Result<()> {
        let mut order: Vec<String> = Vec::new();
        let all = module_files(kernel)?;
        fs::create_dir_all(self.dir.join("modules"))?;
        let mut done = BTreeSet::new();
        for name in MODULES {
            self.module(name, &all, &mut done, &mut order)?;
        }
        self.text("modules/order", &order.iter().fold(String::new(), |text, name| text + name + "\n"))
    }

    fn module(&self, name: &str, all: &[PathBuf], done: &mut BTreeSet<String>, order: &mut Vec<String>) -> Result<()> {
        let Some(packed) = all.iter().find(|file| module_name(file) == name) else { return Ok(()) };
        if !done.insert(name.to_owned()) {
            return Ok(());
        }
        let plain = self.dir.join("modules").join(format!("{name}.ko"));
        if packed.extension().is_some_and(|end| end == "xz") {
            let output = fs::File::create(&plain)?;
            let unpacked = command("xz").args(["-d", "-c"]).arg(packed).stdout(output).status();
            ensure!(unpacked.context("cannot start xz")?.success(), "cannot unpack {}", packed.display());
        } else {
            fs::copy(packed, &plain)?;
        }
        for needed in dependencies(&plain)? {
            self.module(&needed, all, done, order)?;
        }
        order.push(format!("{name}.ko"));
        Ok(())
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

struct Linked {
    /// Path without the leading slash.
    interpreter: Option<String>,
    libraries: Vec<String>,
}

/// Reads the interpreter and the names of needed libraries from a program's headers.
fn linked(file: &Path) -> Result<Linked> {
    let data = fs::read(file)?;
    let mut linked = Linked { interpreter: None, libraries: Vec::new() };
    let Ok(header) = FileHeader64::<Endianness>::parse(&*data) else { return Ok(linked) };
    let endian = header.endian()?;
    for segment in header.program_headers(endian, &*data)? {
        if segment.p_type(endian) == PT_INTERP {
            let path = segment.data(endian, &*data).map_err(|()| anyhow::anyhow!("no interpreter"))?;
            let path = String::from_utf8_lossy(path);
            linked.interpreter = Some(path.trim_matches(['\0', '/']).to_owned());
        }
    }
    let sections = header.sections(endian, &*data)?;
    if let Some((dynamic, strings)) = sections.dynamic(endian, &*data)? {
        let strings = sections.strings(endian, &*data, strings)?;
        for entry in dynamic {
            if entry.tag32(endian).map(i64::from) == Some(DT_NEEDED) {
                let name = entry.string(endian, strings)?;
                linked.libraries.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(linked)
}

/// Names of the modules that a module needs, from its `depends=` entry.
fn dependencies(module: &Path) -> Result<Vec<String>> {
    let data = fs::read(module)?;
    let object = object::File::parse(&*data).with_context(|| module.display().to_string())?;
    let info = object.section_by_name(".modinfo").context("a module has .modinfo")?;
    let text = String::from_utf8_lossy(info.data()?).into_owned();
    let depends = text.split('\0').find_map(|entry| entry.strip_prefix("depends=")).unwrap_or_default();
    Ok(depends.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

/// Module files below a kernel's package.
fn module_files(kernel: &Path) -> Result<Vec<PathBuf>> {
    let mut find = String::new();
    for lib in ["lib/modules", "usr/lib/modules"] {
        let dir = kernel.join(lib);
        if dir.is_dir() {
            find += &run(command("find").arg(dir).args(["-name", "*.ko", "-o", "-name", "*.ko.xz"]))?;
        }
    }
    Ok(find.lines().map(PathBuf::from).collect())
}

/// The name of a module: `nf-nat.ko.xz` is `nf_nat`.
fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// A job line.
pub(super) fn job(kind: &str, name: &str, seconds: u32, words: &str) -> String {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _infallible = writeln!(line, "{kind} {name} {seconds} {words}");
    line
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{base, linked, module_name};

    #[test]
    fn module_name_has_underscores() {
        assert_eq!(module_name(Path::new("/lib/modules/nf-nat.ko.xz")), "nf_nat");
        assert_eq!(module_name(Path::new("veth.ko")), "veth");
        assert_eq!(base("lib64/ld-linux-x86-64.so.2"), "ld-linux-x86-64.so.2");
    }

    #[test]
    fn own_program_names_its_libraries() {
        let own = linked(Path::new("/proc/self/exe")).expect("this program");
        assert!(own.interpreter.is_some_and(|path| path.contains("ld-linux")));
        assert!(own.libraries.iter().any(|name| name.starts_with("libc.so")), "{:?}", own.libraries);
    }
}
