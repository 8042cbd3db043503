//! Output of `--help`.

use std::os::unix::fs::symlink;

use execpath_tests::binary::{self, command, finish, run};

#[test]
fn every_command_prints_help() {
    for name in [
        "",
        "trace",
        "ls",
        "show",
        "diagnose",
        "watch",
        "record",
        "agent",
        "replay",
        "merge",
        "cut",
        "render",
        "run",
        "demo",
        "doctor",
        "schema",
        "completions",
    ] {
        let arguments = [name, "--help"];
        let ran = run(arguments.iter().filter(|word| !word.is_empty()));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let snapshot = if name.is_empty() { "help".to_owned() } else { format!("help.{name}") };
        insta::assert_snapshot!(snapshot, ran.stdout);
    }
}

#[test]
fn kubectl_plugin_uses_the_name_kubectl_execpath() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("kubectl-execpath");
    symlink(binary::path(), &plugin).expect("the folder can be written");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&plugin);
        finish(command.env("COLUMNS", "100").args(arguments))
    };
    let help = run(&["trace", "--help"]).stdout;
    assert!(help.contains("Usage: kubectl execpath trace [OPTIONS]"), "{help}");
    assert!(help.contains("\n  kubectl execpath trace --namespace default"), "{help}");
    assert!(!help.contains("\n  execpath "), "{help}");
    assert_eq!(run(&[]).stderr, "error: no command given\nhint: `kubectl execpath --help` lists the commands\n");
    assert_eq!(
        run(&["trace", "--xyz"]).stderr,
        "error: unexpected argument '--xyz' found\nhint: `kubectl execpath trace --help` lists the options\n"
    );
    let script = run(&["completions", "bash"]).stdout;
    assert!(script.trim_end().lines().any(|line| line.ends_with(" kubectl-execpath")), "{script}");
}

#[test]
fn version_prints_one_line() {
    let ran = run(["--version"]);
    assert_eq!((ran.code, ran.stdout), (Some(0), format!("execpath {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completions_support_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = finish(command().args(["completions", shell]));
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("execpath") && ran.stdout.contains("replay"), "{shell}");
    }
}
