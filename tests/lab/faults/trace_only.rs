//! Faults visible only in a trace: the ends of sessions. Their verdicts come from the recording.

use super::{
    StoppedProcess, codes, first_of,
    guards::{CleanLab, KilledDaemon},
};
use crate::{
    env::{lab, wait_until},
    kubectl::{Exec, Mode, mark},
    relay::{self, through},
    reported::ReportedSession,
    tracer::Tracer,
};

#[test]
fn f30_killed_daemon_cuts_session() {
    for daemon in ["kubelet", "kube-apiserver"] {
        let _clean = CleanLab::new();
        let mark = mark();
        let mut tracer = Tracer::start(&[]);
        let kubectl = Exec { mode: Mode::Stdin, ..Exec::sh(&format!(": {mark}; exec sleep 600")) }.start();
        tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
        let mut killed = KilledDaemon::kill(daemon);
        tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
        let found = tracer.finish().faults(&mark);
        killed.start_again();
        drop(kubectl);
        assert_eq!(found, (Some(10), vec!["F30".to_owned()]), "{daemon}");
    }
}

#[test]
fn f31_proxy_drops_end_of_output() {
    /// Bytes that the command prints, and bytes that the proxy passes on.
    const PRINTED: u32 = 1 << 20;
    const PASSED: &str = "300000";
    let relay = relay::relay(&["--most", PASSED]);
    let mark = mark();
    let mut tracer = Tracer::start(&[]);
    // The end of a client behind a proxy is visible only once its session is known: the command waits until then.
    let script = format!(": {mark}; read -r go; head -c {PRINTED} /dev/zero");
    // SPDY cannot signal a premature end: this kubectl reports success.
    let exec = Exec { version: lab().oldest(), globals: through(), mode: Mode::Stdin, ..Exec::sh(&script) };
    let mut kubectl = exec.start();
    tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    kubectl.write("go\n");
    let kubectl_exit = kubectl.end();
    tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    assert!(kubectl_exit.status.success() && kubectl_exit.output.len() < PRINTED as usize, "{:?}", kubectl_exit.status);
    assert_eq!(tracer.finish().faults(&mark), (Some(10), vec!["F31".to_owned()]));
    drop(relay);
}

/// An exec whose command cannot be executed; `errno` is that of execve(2), if the OCI runtime got so far. `code` is the
/// named fault.
fn cannot_execute(command: &[&str], errno: Option<u32>, code: &str) {
    let mark = mark();
    let mut tracer = Tracer::start(&[]);
    let exit = Exec::of(&[command, &[&mark]].concat()).start().end();
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    let seen = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    let attempt = &seen.0["attempt"];
    assert_eq!([&attempt["reached"], &attempt["failed_at"]], ["runc-started", "executed"], "{attempt:#}");
    assert_eq!(attempt["errno"], serde_json::json!(errno), "{attempt:#}");
    assert_eq!(tracer.finish().faults(&mark), (Some(10), vec![code.to_owned()]));
}

#[test]
fn f41_command_cannot_be_executed() {
    let _clean = CleanLab::new();
    cannot_execute(&["nosuchcommand"], None, "F41");
    cannot_execute(&["/nosuch/command"], None, "F41");
    let make = |content: &str| {
        let file = format!("/tmp/{}", mark());
        let script = format!("printf '{content}' > {file} && chmod +x {file}");
        assert!(Exec::sh(&script).start().end().status.success());
        file
    };
    cannot_execute(&[&make("#!/nosuch/interpreter\\n")], Some(2), "F41");
    cannot_execute(&[&make("no program")], Some(8), "F41");
}

/// Value of `security.capability` for CAP_SYS_ADMIN, permitted and effective: the second version, its flag, the lower
/// words of both sets, the upper ones (include/uapi/linux/capability.h: struct vfs_cap_data).
fn needs_sys_admin() -> Vec<u8> {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    const SYS_ADMIN: u32 = 1 << 21;
    [REVISION_2_EFFECTIVE, SYS_ADMIN, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect()
}

#[test]
fn f46_program_has_capabilities_that_the_container_lacks() {
    let _clean = CleanLab::new();
    let mark = mark();
    let [program, script] = ["program", "script"].map(|name| format!("/tmp/{mark}-{name}"));
    let make = format!(
        "cp /bin/busybox {program} && chmod 644 {program} && echo '#!{program} true' > {script} && chmod 755 {script}"
    );
    assert!(Exec::sh(&make).start().end().status.success());
    // An interpreter that may not be executed is another fault.
    cannot_execute(&[&script], Some(13), "F41");
    let path = format!("/proc/{}/root{program}", first_of("web", "web"));
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, permissions).expect("the file of the container");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "security.capability", &needs_sys_admin(), flags).expect("the file system has xattrs");
    cannot_execute(&[&program, "true"], Some(1), "F46");
    assert!(Exec::sh(&format!("rm {program} {script}")).start().end().status.success());
}

#[test]
fn f47_stopped_kubectl_outlives_session() {
    let _clean = CleanLab::new();
    let mark = mark();
    let mut tracer = Tracer::start(&["--measure", "2s"]);
    let kubectl = Exec::sh(&format!(": {mark}; until [ -e /{mark} ]; do sleep 0.1; done; exit 0")).start();
    tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    let stopped = StoppedProcess::new(kubectl.pid());
    // Let the command end.
    let go = format!("/proc/{}/root/{mark}", first_of("web", "web"));
    std::fs::File::create(&go).expect("a file in the container");
    let over = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    std::fs::remove_file(go).expect("the file in the container");
    assert_eq!(over.exit(), (Some(0), None, "exited"));
    let recording = tracer.file("recording.jsonl.zst");
    wait_until("F47", || {
        let words = ["diagnose".as_ref(), "--from".as_ref(), recording.as_os_str(), "-o".as_ref(), "json".as_ref()];
        let ran = execpath_tests::binary::run(words);
        let found: Vec<serde_json::Value> = serde_json::from_str(&ran.stdout).ok()?;
        codes(&found).iter().any(|code| code == "F47").then_some(())
    });
    let found = tracer.finish().faults(&mark);
    drop(stopped);
    assert!(kubectl.end().status.success());
    assert_eq!(found, (Some(10), vec!["F47".to_owned()]));
}
