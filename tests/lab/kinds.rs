//! Sessions other than exec: each kind is recognised and linked as far as its path goes.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use crate::{
    env::{lab, on, output, wait_until},
    kubectl::{Exec, Kubectl, Mode, kubectl, mark},
    reported::ReportedSession,
    tracer::{Tracer, sessions},
};

fn of(arguments: &[&str]) -> Kubectl {
    Kubectl::start(kubectl(lab().newest(), "admin", 0).args(arguments).stdin(Stdio::piped()), None)
}

/// Waits for the session of this kubectl that satisfies `is`.
fn of_client(tracer: &mut Tracer, pid: u32, is: impl Fn(&ReportedSession) -> bool) -> ReportedSession {
    tracer.wait(&format!("a session of kubectl {pid}"), |lines| {
        sessions(lines).into_values().find(|session| session.pid("kubectl") == Some(pid) && is(session))
    })
}

/// Checks that the path from client to runtime is complete and proved.
fn reaches_runtime(session: &ReportedSession) {
    let roles = session.roles();
    assert_eq!(roles.get(..4), Some(&["kubectl", "apiserver", "kubelet", "runtime"][..]), "{session:?}");
    assert_eq!(session.text("/confidence"), Some("exact"), "{session:?}");
    for (role, daemon) in [("apiserver", "kube-apiserver"), ("kubelet", "kubelet"), ("runtime", "containerd")] {
        assert_eq!(session.pid(role), Some(lab().daemon(daemon)), "{session:?}");
    }
    let relays = session.links().iter().filter(|link| link["kind"] == "relay").count();
    assert_eq!(relays, 2, "{session:?}");
}

#[test]
fn cp_is_reported_in_both_directions() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = mark();
    let (here, there) = (folder.path().join(&mark), format!("web:/tmp/{mark}"));
    let here = here.to_str().expect("UTF-8");
    fs::write(here, &mark).expect("a file");
    let mut tracer = Tracer::start(&["--kind", "cp"]);
    for (from, to) in [(here, there.as_str()), (there.as_str(), here)] {
        let kubectl = of(&["cp", from, to, "-c", "web"]);
        let pid = kubectl.pid();
        assert!(kubectl.end().status.success());
        let tar = |session: &ReportedSession| {
            session.is_closed() && session.command().first().is_some_and(|word| *word == "tar")
        };
        let session = of_client(&mut tracer, pid, tar);
        reaches_runtime(&session);
        assert_eq!((session.text("/kind"), session.is_complete()), (Some("cp"), true), "{session:?}");
        assert_eq!(session.exit(), (Some(0), None, "exited"), "{session:?}");
    }
    tracer.finish().lost_nothing();
}

#[test]
fn attach_links_client_to_runtime() {
    let mut tracer = Tracer::start(&[]);
    let kubectl = of(&["attach", "-i", "web", "-c", "web"]);
    // A provisional session appears as soon as kubectl's request is seen. The peers of its connections become known a
    // little later.
    let is_whole =
        |session: &ReportedSession| session.text("/kind") == Some("attach") && session.gaps() == ["process-unknown"];
    let session = of_client(&mut tracer, kubectl.pid(), is_whole);
    reaches_runtime(&session);
    let pid = kubectl.pid();
    drop(kubectl);
    let session = of_client(&mut tracer, pid, ReportedSession::is_closed);
    assert_eq!(session.text("/kind"), Some("attach"));
    tracer.finish().lost_nothing();
}

#[test]
fn port_forward_links_serving_processes() {
    let (mark, port) = (mark(), 18_000 + std::process::id() % 1_000);
    let mut tracer = Tracer::start(&[]);
    // A server in the pod runs one `cat` per connection. The server ends with its stdin.
    let script = format!("nc -ll -p {port} -e cat & cat; kill $!; : {mark}");
    let mut server = Exec { mode: Mode::Stdin, ..Exec::sh(&script) }.start();
    let listener = wait_until("nc listens", || {
        let text = output(on("worker", "ss").args(["-tlnpH", &format!("sport = :{port}")]));
        text.split("pid=").nth(1)?.split(',').next()?.parse::<u32>().ok()
    });
    let forward = of(&["port-forward", "web", &format!("{port}:{port}")]);
    wait_until("kubectl listens", || {
        let text = output(on("client", "ss").args(["-tlnH", &format!("sport = :{port}")]));
        (!text.is_empty()).then_some(())
    });
    // Two simultaneous connections that stay open.
    let mut clients = Vec::new();
    for _ in 0..2 {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; echo {mark} >&3; read -r line <&3; echo \"$line\"; cat >/dev/null"
        );
        let mut client: Command = on("client", "bash");
        let client = client.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        clients.push(client.expect("bash"));
    }
    let session = of_client(&mut tracer, forward.pid(), |session| {
        session.text("/kind") == Some("port-forward")
            && session.roles().iter().filter(|role| **role == "process").count() == 2
    });
    reaches_runtime(&session);
    assert_eq!((session.is_complete(), session.gaps()), (true, Vec::new()), "{session:?}");
    for hop in session.hops().iter().filter(|hop| hop["role"] == "process") {
        let pid = hop["pid"].as_u64().expect("a pid");
        let parent = output(Command::new("ps").args(["-o", "ppid=", "-p", &pid.to_string()]));
        assert_eq!(parent.trim(), listener.to_string(), "{hop}");
    }
    for mut client in clients {
        drop(client.stdin.take());
        let output = client.wait_with_output().expect("a child of ours");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), mark, "{output:?}");
    }
    let pid = forward.pid();
    drop(forward);
    of_client(&mut tracer, pid, ReportedSession::is_closed);
    server.close_stdin();
    server.end();
    tracer.finish().lost_nothing();
}

#[test]
fn ctr_exec_is_reported_as_local() {
    let mark = mark();
    let mut tracer = Tracer::start(&["--kind", "local"]);
    let container = crate::oracle::container("web", "web");
    let mut ctr = on("worker", "ctr");
    ctr.args(["-n", "k8s.io", "task", "exec", "--exec-id", &mark, container.id()]);
    let mut ctr = ctr
        .args(["sh", "-c", &format!("cat; : {mark}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("ctr");
    // `ctr` forwards its stdin through a FIFO of its own only. The test needs an open stdin, not its content.
    ctr.stdin.take().expect("a pipe").write_all(b"x").expect("ctr keeps its stdin open");
    let session = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    assert!(ctr.wait().expect("a child of ours").success());
    assert_eq!((session.text("/kind"), session.is_complete()), (Some("local"), true), "{session:?}");
    assert_eq!(session.roles(), ["runtime", "shim", "runc", "process"], "{session:?}");
    assert_eq!(session.pid("runtime"), Some(lab().daemon("containerd")));
    assert_eq!(session.text("/exec_id"), Some(mark.as_str()));
    tracer.finish().lost_nothing();
}
