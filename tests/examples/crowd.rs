//! Writes a recording of many sessions, one after another through the same daemons: `crowd SESSIONS FILE [hostile]`.
//! The first session has samples. With `hostile`, names and arguments contain markup and control characters.

use std::{error::Error, fmt::Write as _, path::Path};

use execpath::{
    model::{
        BootTime, ClockAnchor, Fact, HostFacts, Observation, RawText, SocketId, Source, TcpInfo, TcpMeasure, TcpState,
        WatchAs,
    },
    record::{Header, RecordTarget, Writer},
};
use execpath_tests::scenario::parse;

/// Daemons that exist before the first session.
const DAEMONS: &str = "\
1 process 60 kube-apiserver
1 listen 60 10.0.0.2:6443
1 process 70 kubelet
1 listen 70 10.0.0.3:10250
1 process 80 containerd
1 unix-listen 80 /run/containerd/containerd.sock
1 process 90 containerd-shim-runc-v2
1 unix-listen 90 /run/containerd/s/0123
";
/// Milliseconds from one session to the next.
const APART: u64 = 30;
/// Bytes of a hostile argument.
const LONG: usize = 100_000;
/// Markup, a control character, a terminal escape, marks that reverse the reading direction, a line separator.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)><!--\u{1b}[31m\u{202e}\u{2066}\u{2028}\"'`${1}&lt;";

/// A session as in tests/scenarios/containerd.txt, with identities of its own.
fn session(number: u64) -> String {
    let (start, pid) = (10 + APART * number, 1_000 + 10 * number);
    let port = |base: u64| base + number % 10_000;
    let (client, server, kubelet) = (port(20_000), port(30_000), port(40_000));
    let (child, stage, process) = (pid + 1, pid + 2, pid + 3);
    let mut text = String::new();
    let steps = [
        format!("0 enrolled {pid} kubectl exec web-{} -- sh", number % 7),
        format!("0.01 connect {pid} c{number} 10.0.0.1:{client}>10.0.0.2:6443 by g{number}0"),
        format!("0.02 accept 60 C{number} 10.0.0.2:6443>10.0.0.1:{client}"),
        format!("1 connect 60 a{number} 10.0.0.2:{server}>10.0.0.3:10250 by g{number}1 from C{number}"),
        format!("1.01 accept 70 A{number} 10.0.0.3:10250>10.0.0.2:{server}"),
        format!("2 connect 70 k{number} 127.0.0.1:{kubelet}>127.0.0.1:5000 by g{number}2 from A{number}"),
        format!("2.01 accept 80 K{number} 127.0.0.1:5000>127.0.0.1:{kubelet}"),
        format!("3 fifo 80 web{number} e{number} stdin by g{number}3 from K{number}"),
        format!("3.01 fifo 80 web{number} e{number} stdout by g{number}3 from K{number}"),
        format!("4 fork 90 {child}"),
        format!("4.1 runc {child} web{number} e{number}"),
        format!("4.2 fork {child} {stage}"),
        format!("4.3 fork {stage} {process}"),
        format!("5 exec {process} @contained sh"),
        format!("5.5 exit {stage} code 0"),
        format!("5.6 exit {child} code 0"),
        format!("6 pid-file web{number} e{number} {process}"),
        format!("7 container web{number} default/web-{}/web", number % 7),
        format!("20 exit {process} code {}", number % 3),
        format!("20.1 close K{number}"),
        format!("20.2 close k{number}"),
        format!("20.3 close A{number}"),
        format!("20.4 close a{number}"),
        format!("20.5 close C{number}"),
        format!("20.6 close c{number}"),
    ];
    for step in steps {
        let (at, rest) = step.split_once(' ').unwrap_or_default();
        let (whole, part) = at.split_once('.').unwrap_or((at, "0"));
        let whole: u64 = start + whole.parse::<u64>().unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{whole}.{part} {rest}");
    }
    text
}

/// Two samples of the client's connection of the first session.
fn measures(facts: &[Observation]) -> Vec<Observation> {
    let connected = facts.iter().find_map(|seen| {
        if let Fact::Connected { socket, .. } = &seen.fact { Some((seen.at, socket.id)) } else { None }
    });
    let Some((begun, socket)) = connected else { return Vec::new() };
    let at = |millis: u64, recv_q: u32, bytes: u64| {
        let info = TcpInfo { rtt_us: 61, bytes_acked: bytes, bytes_received: 2 * bytes, ..TcpInfo::default() };
        let measure = TcpMeasure { state: TcpState::Established, recv_q, send_q: 0, timer: None, info: Some(info) };
        let fact = Fact::TcpMeasured { socket: SocketId { cookie: None, ..socket }, tuple: None, measure };
        Observation::new(BootTime(begun.0 + millis * 1_000_000), Source::Snapshot, fact)
    };
    vec![at(8, 0, 234), at(12, 4_096, 1_539)]
}

/// Replaces names and arguments by hostile ones.
fn spoil(seen: &mut Observation) {
    if let Fact::ContainerSeen(container) = &mut seen.fact {
        container.pod = Some(HOSTILE.to_owned());
        container.namespace = Some("\u{202e}tluafed".to_owned());
    }
    if let Some(process) = seen.fact.process_mut().filter(|process| process.watched == Some(WatchAs::InContainer)) {
        process.argv = vec!["sh".into(), HOSTILE.into(), RawText::from("</script>".repeat(LONG / 9).as_str())];
        process.comm = HOSTILE.into();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (sessions, file, hostile) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [sessions, file] => (sessions.parse::<u64>()?, file, false),
        [sessions, file, "hostile"] => (sessions.parse::<u64>()?, file, true),
        _ => return Err("crowd SESSIONS FILE [hostile]".into()),
    };
    let text: String = (0..sessions).map(session).fold(DAEMONS.to_owned(), |text, one| text + &one);
    let mut facts = parse("crowd", &format!("{text}expect\n"), 0)?.facts();
    facts.extend(measures(&facts));
    facts.sort_by_key(|seen| seen.at);
    let end = facts.last().map_or(BootTime(0), |seen| seen.at);
    facts.push(Observation::new(BootTime(end.0 + 10_000_000), Source::Engine, Fact::Stopped));
    let host = HostFacts {
        hostname: "worker".into(),
        kernel: "6.18.5".into(),
        boot_id: "a-boot".into(),
        ..HostFacts::default()
    };
    let header = Header::new(ClockAnchor { boot_to_utc_ns: 1_795_297_200_000_000_000 }, host);
    let mut writer = Writer::begin(RecordTarget::create(Path::new(file))?, &header)?;
    for seen in &mut facts {
        if hostile {
            spoil(seen);
        }
        writer.write(seen)?;
    }
    writer.finish()?;
    Ok(())
}
