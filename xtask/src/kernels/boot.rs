//! Boots a guest under QEMU and reads its reports.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::guests::Arch;
use crate::tools::command;

/// Longest silence of a guest. Emulated jobs are limited to less by init.
const SILENCE: Duration = Duration::from_secs(400);

/// A job that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Job {
    /// `demo`, or target and test: `kernel::tcp::…`.
    pub(super) name: String,
    pub(super) code: i32,
    /// Milliseconds in the guest.
    pub(super) millis: u64,
    pub(super) output: String,
}

impl Job {
    pub(super) fn passed(&self) -> bool {
        self.code == 0
    }

    /// The reason why a test skipped itself, or why the kernel refused its road. A test of several roads reports the pairs
    /// of the others.
    pub(super) fn skipped(&self) -> Option<&str> {
        if self.output.contains(" pairs, 0 wrong") {
            return None;
        }
        self.output.lines().find_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("skipped: ").or_else(|| line.strip_prefix("refused: "))
        })
    }
}

/// Reports of a guest.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Kernel release; `None` if the guest did not boot.
    pub(super) release: Option<String>,
    pub(super) jobs: Vec<Job>,
    pub(super) notes: Vec<String>,
    /// True if all jobs ended.
    pub(super) done: bool,
    current: Option<Job>,
}

impl Reports {
    /// Takes one line of the console. Returns true if it ended a job.
    fn line(&mut self, line: &str) -> bool {
        if let Some(output) = line.strip_prefix("| ") {
            if let Some(job) = &mut self.current {
                job.output += output;
                job.output.push('\n');
            }
            return false;
        }
        // The kernel's messages may precede a report on its line.
        let Some((_, report)) = line.split_once("@@ ") else { return false };
        let words: Vec<&str> = report.split_whitespace().collect();
        match *words.as_slice() {
            ["boot", release] => self.release = Some(release.to_owned()),
            ["run", name] => self.current = Some(Job { name: name.to_owned(), code: -1, ..Job::default() }),
            ["end", name, code, millis] => {
                let job = self.current.take().filter(|job| job.name == name).unwrap_or_default();
                let (code, millis) = (code.parse().unwrap_or(-1), millis.parse().unwrap_or(0));
                self.jobs.push(Job { name: name.to_owned(), code, millis, ..job });
                return true;
            }
            ["done"] => self.done = true,
            ["note", ..] => self.notes.push(words.get(1..).unwrap_or_default().join(" ")),
            _ => {}
        }
        false
    }
}

/// The command that boots a kernel with an initramfs.
pub(super) fn qemu(arch: Arch, kernel: &Path, initramfs: &Path) -> Command {
    let (program, machine, console) = match arch {
        // 5-level page tables slow emulated accesses.
        Arch::X86_64 => ("qemu-system-x86_64", &["-cpu", "max,la57=off"][..], "ttyS0"),
        // The architecture's own pointer authentication takes long to emulate.
        Arch::Arm64 => ("qemu-system-aarch64", &["-M", "virt", "-cpu", "max,pauth-impdef=on"][..], "ttyAMA0"),
    };
    let mut qemu = command(program);
    qemu.args(machine).args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2500"]);
    qemu.args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    // Emulated processors run slowly, which is no lock-up. A panic ends the guest.
    qemu.args(["-append", &format!("console={console} quiet loglevel=3 panic=-1 nokaslr mitigations=off nowatchdog")]);
    qemu
}

/// Kills the emulator if the guest is abandoned.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Boots a guest, writes its console to a log, and reads its reports until it powers off. `ended` is called after each
/// job.
pub(super) fn boot(mut qemu: Command, log: &Path, limit: Duration, mut ended: impl FnMut(&Job)) -> Result<Reports> {
    let mut log = fs::File::create(log).with_context(|| log.display().to_string())?;
    let begin = Instant::now();
    let child = qemu.stdout(Stdio::piped()).stderr(log.try_clone()?).spawn().context("cannot start QEMU")?;
    let mut guard = Guard(child);
    let console = guard.0.stdout.take().context("no pipe")?;
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            let Ok(line) = line else { break };
            if send.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    let mut reports = Reports::default();
    loop {
        let left = limit.saturating_sub(begin.elapsed());
        match lines.recv_timeout(left.min(SILENCE)) {
            Ok(line) => {
                writeln!(log, "{line}")?;
                if reports.line(&line)
                    && let Some(job) = reports.jobs.last()
                {
                    ended(job);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let running = reports.current.as_ref().map_or("no job", |job| &job.name);
                reports.notes.push(format!("killed after {} s; running: {running}", begin.elapsed().as_secs()));
                return Ok(reports);
            }
        }
    }
    if !guard.0.wait()?.success() {
        bail!("QEMU failed: see the log");
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::{Job, Reports};

    #[test]
    fn reports_are_read_from_console() {
        let mut reports = Reports::default();
        let console = "noise\n[ 1.0] kernel: x@@ boot 6.12.1\n@@ run demo\n| one\n| skipped: no veth\n@@ end demo 3 1500\n\
                       @@ note cannot load x.ko\n@@ run kernel::a::b\n";
        let ended: Vec<bool> = console.lines().map(|line| reports.line(line)).collect();
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
        assert_eq!(reports.release.as_deref(), Some("6.12.1"));
        let output = "one\nskipped: no veth\n".to_owned();
        assert_eq!(reports.jobs, [Job { name: "demo".to_owned(), code: 3, millis: 1500, output }]);
        assert_eq!(reports.jobs[0].skipped(), Some("no veth"));
        let in_part =
            Job { output: "refused: EPERM\nfexit splice tcp4: 120 pairs, 0 wrong\n".to_owned(), ..Job::default() };
        assert_eq!(in_part.skipped(), None);
        assert_eq!(reports.notes, ["cannot load x.ko"]);
        assert!(!reports.done);
        reports.line("@@ done");
        assert!(reports.done);
    }
}
