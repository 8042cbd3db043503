//! Idle time of sessions: heartbeats do not count as use.

use execpath::{
    model::{
        BootTime, Fact, FileId, Measures, Observation, Session, SocketId, Source, Span, TcpInfo, TcpMeasure, TcpState,
    },
    sink::view,
};
use execpath_tests::samples;

/// Ends of the session's own connections.
fn ends(session: &Session) -> Vec<SocketId> {
    let own = session.links.iter().filter(|link| !link.persistent).filter_map(|link| link.tcp);
    own.flat_map(|ends| [ends.near, ends.far]).flatten().collect()
}

/// Samples every end, with these byte counts; the last byte moved a second ago.
fn sample(measures: &mut Measures, session: &Session, at: BootTime, (sent, received): (u64, u64)) {
    for socket in ends(session) {
        let info = TcpInfo {
            bytes_acked: sent,
            bytes_received: received,
            last_sent_ms: 1_000,
            last_received_ms: 1_000,
            ..TcpInfo::default()
        };
        let measure = TcpMeasure { state: TcpState::Established, recv_q: 0, send_q: 0, timer: None, info: Some(info) };
        measures.take(&Observation::new(at, Source::Snapshot, Fact::TcpMeasured { socket, tuple: None, measure }));
    }
}

fn idle_ms(session: &Session, measures: &Measures, now: BootTime) -> Option<u64> {
    view::idle(session, measures, now).map(Span::as_millis)
}

#[test]
fn heartbeats_keep_session_idle_and_input_does_not() {
    let (session, mut measures) = (samples::whole(), Measures::default());
    let at = |seconds: u64| session.opened_at.plus(Span::from_secs(seconds));
    sample(&mut measures, &session, at(100), (5_000, 3_000));
    assert_eq!(idle_ms(&session, &measures, at(100)), None, "one sample is not enough");
    for pings in 1..=12 {
        sample(&mut measures, &session, at(100 + 5 * pings), (5_000 + 28 * pings, 3_000 + 24 * pings));
    }
    assert_eq!(idle_ms(&session, &measures, at(160)), Some(60_000), "idle since the first sample");
    sample(&mut measures, &session, at(165), (5_000 + 28 * 13 + 30, 3_000 + 24 * 13 + 26));
    assert_eq!(idle_ms(&session, &measures, at(165)), Some(1_000));
    sample(&mut measures, &session, at(170), (5_000 + 28 * 14 + 30, 3_000 + 24 * 14 + 26));
    assert_eq!(idle_ms(&session, &measures, at(170)), Some(6_000));
}

#[test]
fn one_fifo_sample_gives_idle_time() {
    let (session, mut measures) = (samples::whole(), Measures::default());
    let at = session.opened_at.plus(Span::from_secs(1_000));
    sample(&mut measures, &session, at, (5_000, 3_000));
    let (container, exec) =
        (session.target.container_id.as_ref().expect("an id"), session.exec_id.as_ref().expect("an id"));
    for (stream, ago_ms) in [("stdin", 700_000), ("stdout", 600_000)] {
        let path = format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{container}/io/1/{exec}-{stream}");
        let used = Fact::FifoUsed { path: path.as_str().into(), file: FileId::new(1, ago_ms), ago_ms };
        measures.take(&Observation::new(at, Source::Snapshot, used));
    }
    assert_eq!(idle_ms(&session, &measures, at), Some(600_000));
    // Last written before the session, according to a clock that was changed since.
    let path = format!("/x/{container}/{exec}-stderr");
    let mut other = Measures::default();
    let used = Fact::FifoUsed { path: path.as_str().into(), file: FileId::new(1, 1), ago_ms: 5_000_000 };
    other.take(&Observation::new(at, Source::Snapshot, used));
    assert_eq!(idle_ms(&session, &other, at), Some(1_000_000), "at most the age of the session");
}
