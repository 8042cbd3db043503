//! Compares the layouts shared by the BPF object and its loader with `abi.lock`.
//!
//! `cargo xtask abi` writes that file. A change of it is reviewed like a change of an API.

use std::any::type_name;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use tracer_common::{
    ABI, Accepted, Actor, ActorKey, Closed, Config, Connected, Counter, Dial, ExecFailed, Exit, Fifo, FifoPairKey,
    FifoRelayed, Fork, Header, Kind, Last, Listening, Offsets, OpenFile, OpenKind, OpenUnix, PairKey, Process, Reading,
    Relayed, Signalled, Socket, Text, TouchKey, Touched, Tracked, UnixAccepted, UnixConnected, Watch,
};

/// Name of a field's type, without its path.
fn type_of<S, T>(_: fn(&S) -> &T) -> &'static str {
    type_name::<T>()
}

/// Writes one line for a type and one for each of its fields. The pattern names every field, so that none can be
/// forgotten.
macro_rules! layouts {
    ($($name:ident $(<$n:literal>)? { $($field:ident),* $(,)? })*) => {
        /// Names of the types listed below.
        const LISTED: &[&str] = &[$(stringify!($name)),*];

        fn layouts() -> String {
            let mut text = String::new();
            $({
                type Type = $name $(<$n>)?;
                const _: fn(&Type) = |Type { $($field: _),* }| ();
                let _ok = writeln!(text, "\n{} size {} align {}", stringify!($name), size_of::<Type>(), align_of::<Type>());
                $({
                    let (at, of) = (std::mem::offset_of!(Type, $field), type_of(|it: &Type| &it.$field));
                    let _ok = writeln!(text, "  {at} {} {}", stringify!($field), of.replace("tracer_common::", ""));
                })*
            })*
            text
        }
    };
}

layouts! {
    Accepted { header, socket }
    Actor { g, goid, parent_goid }
    ActorKey { actor, tgid, reserved }
    Closed { header, cookie, inode, bytes_received, bytes_acked }
    Config { netns, own_tgid, g_register, stack_register, watch_quota, watch_shared, features, registers_at, first_argument, third_argument, fourth_argument, reserved }
    Connected { header, actor, socket, inbound_cookie, inbound_inode }
    Dial { header, actor, socket, inbound_cookie, inbound_inode, errno, reserved }
    ExecFailed { header, errno, mntns }
    Exit { header, status, reserved }
    Fifo { header, actor, inbound, path }
    FifoPairKey { inode, to, device, reserved }
    FifoRelayed { header, actor, fifo_inode, fifo_device, reserved, to }
    Fork { header, child_tgid, reserved, child_start_ns, actor, inbound_cookie, inbound_inode }
    Header { kind, abi, cpu, seq, at_ns, tgid, tid, start_ns }
    Last { sk, cookie, goid }
    Listening { header, socket }
    OpenFile { start_ns, inode, tgid, fd, kind, device, netns, reserved }
    OpenUnix { cookie, peer_inode, netns, state, path }
    PairKey { from, to }
    Process { header, parent_start_ns, cgroup_id, parent_tgid, uid, login_uid, netns, mntns, class, comm, argv }
    Reading { goid, inode, device, reserved }
    Relayed { header, actor, from, to, how, reserved }
    Signalled { header, signal, sent_by, sender_start_ns, sender_tgid, sender_uid, sender_comm }
    Socket { cookie, inode, local, remote, netns, family, local_port, remote_port, state, role, isn_known, isn_own, isn_peer }
    Text<8> { len, truncated, bytes }
    TouchKey { parent_goid, cookie, tgid, reserved }
    Touched { header, actor, socket }
    Tracked { actor, start_ns, inbound_cookie, inbound_inode, inode, tgid, tid, role, reserved }
    UnixAccepted { header, inode, peer_inode, peer_tgid, reserved, path }
    UnixConnected { header, inode, listener_tgid, reserved, path }
    Watch { start_ns, mntns, class, depth, go, misses, goid_offset, parent_goid_offset, quota }
}

/// The expected content of abi.lock.
fn now() -> String {
    let mut text = format!("abi {ABI}\n{}", layouts());
    let _ok = writeln!(text, "\nOffsets size {} align {}", size_of::<Offsets>(), align_of::<Offsets>());
    for (number, (field, _)) in Offsets::UNKNOWN.rows().enumerate() {
        let _ok = writeln!(text, "  {} {field} u32", number * size_of::<u32>());
    }
    text.push_str("\nKind\n");
    for kind in Kind::ALL {
        let _ok = writeln!(text, "  {} {kind:?}", kind as u16);
    }
    text.push_str("\nOpenKind\n");
    for kind in OpenKind::ALL {
        let _ok = writeln!(text, "  {} {kind:?}", kind as u32);
    }
    text.push_str("\nCounter\n");
    for counter in Counter::ALL {
        let _ok = writeln!(text, "  {} {}", counter as u32, counter.name());
    }
    text
}

fn abi_of(lock: &str) -> &str {
    lock.lines().next().unwrap_or_default()
}

#[test]
fn layouts_match_abi_lock() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("abi.lock");
    let (lock, now) = (fs::read_to_string(&file).unwrap_or_default(), now());
    let changed = lock != now;
    let raised = abi_of(&lock) != abi_of(&now);
    if env::var_os("EXECPATH_ABI_WRITE").is_some() && changed && (raised || lock.is_empty()) {
        fs::write(&file, now).expect("abi.lock is writable");
        return;
    }
    let lines: Vec<String> = now
        .lines()
        .filter(|line| !lock.lines().any(|old| old == *line))
        .map(|line| format!("now:  {line}"))
        .chain(lock.lines().filter(|line| !now.lines().any(|new| new == *line)).map(|line| format!("lock: {line}")))
        .collect();
    assert!(
        !changed,
        "the layouts differ from abi.lock:\n{}\nhint: {}`cargo xtask abi` writes the file",
        lines.join("\n"),
        if raised {
            ""
        } else {
            "raise ABI in tracer-common/src/header.rs, since objects of the old layout exist; then "
        },
    );
}

#[test]
fn every_struct_is_listed() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(sources).expect("sources are readable") {
        let text = fs::read_to_string(entry.expect("directory entry is readable").path()).expect("source is readable");
        // Offsets is listed by its own rows; ReadinessError never leaves user space.
        for name in text.lines().filter_map(|line| line.trim().strip_prefix("pub struct ")) {
            let name = name.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
            let known = LISTED.contains(&name) || ["Offsets", "ReadinessError"].contains(&name);
            assert!(known, "add {name} to tests/abi.rs");
        }
    }
}
