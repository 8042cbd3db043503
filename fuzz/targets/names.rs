//! Names and arguments chosen by processes: cgroup paths, paths of FIFOs and pid files, arguments of runc and
//! kubectl.
#![no_main]

use execpath::model::{
    BootTime, Fact, Observation, ProcessInfo, RawText, SocketId, SocketInfo, Source, TaskKey, WatchAs, is_kubelet_fifo,
    parse_cgroup, parse_fifo_path, parse_pid_file, parse_runc_create, parse_runc_exec,
};
use execpath_fuzz::correlator;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(path) = std::str::from_utf8(data) {
        if let Some(found) = parse_cgroup(path) {
            assert!(path.contains(&found.id), "the path does not contain the id");
        }
        if let Some(found) = parse_fifo_path(path) {
            assert!(path.contains(&found.container) && path.contains(&found.exec));
        }
        drop((is_kubelet_fifo(path), parse_pid_file(path)));
    }
    let argv: Vec<RawText> = data.split(|byte| *byte == 0).map(RawText::from).collect();
    drop((parse_runc_exec(&argv), parse_runc_create(&argv)));
    // Use the same bytes as arguments of a client connected to an API server, and of processes started by a daemon.
    let mut correlator = correlator();
    let task = TaskKey::from_ticks(7, 1);
    let socket = SocketInfo {
        id: SocketId { cookie: Some(1), ..SocketId::default() },
        tuple: serde_json::from_str(r#"{"local":"10.0.0.7:50000","remote":"10.0.0.1:6443"}"#).ok(),
        ..serde_json::from_str(r#"{"id":{},"family":"inet"}"#).expect("socket parses")
    };
    let connected = Fact::Connected { socket, actor: Default::default(), inbound: None };
    for watched in [None, Some(WatchAs::RuntimeChild), Some(WatchAs::InContainer)] {
        let info = ProcessInfo { comm: "kubectl".into(), argv: argv.clone(), watched, ..ProcessInfo::default() };
        correlator.ingest(Observation::of(BootTime(20_000_000), Source::Ebpf, task, Fact::Exec(Box::new(info))));
        correlator.ingest(Observation::of(BootTime(30_000_000), Source::Ebpf, task, connected.clone()));
    }
    correlator.ingest(Observation::new(BootTime(9_000_000_000), Source::Engine, Fact::Tick));
    drop(correlator.report());
});
