//! Rights of a running process, from `/proc/PID/task/TID/status` (proc(5)).

use std::fs;

/// Rights of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// All capabilities that it has in any set, except the bounding set.
    pub capabilities: u64,
    /// Programs that it executes gain no rights.
    pub no_new_privs: bool,
    /// 2: a filter of system calls.
    pub seccomp: u32,
}

/// Rights of every thread of a process.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn of_threads(pid: u32) -> Vec<Status> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    // A thread may end in between.
    let found: Vec<Status> = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .map(|text| status(&text))
        .collect();
    assert!(!found.is_empty(), "the process runs");
    found
}

fn status(text: &str) -> Status {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.expect("every kernel shows this line").trim()
    };
    let set = |key| u64::from_str_radix(value(key), 16).expect("a mask");
    Status {
        capabilities: ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(set).into_iter().fold(0, |all, one| all | one),
        no_new_privs: value("NoNewPrivs") == "1",
        seccomp: value("Seccomp").parse().expect("a number"),
    }
}
