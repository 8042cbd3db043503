//! The oracle's observations: `ss` with its byte counters, /proc, and the files of the runtime. The oracle shares no
//! code with the tracer and knows nothing of its rules.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};

use super::plan::Planned;
use super::reported::Session;
use crate::lab::network::Host;
use crate::tools::run;

/// Directories of containerd's shims with the files of each container: of Kubernetes, and of docker.
const TASKS: [&str; 2] =
    ["/run/containerd/io.containerd.runtime.v2.task/k8s.io", "/run/containerd/io.containerd.runtime.v2.task/moby"];

const APISERVER_PORT: u16 = 6443;
const KUBELET_PORT: u16 = 10250;

/// Both ends of a connection as seen by the accepting end: its own address first.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// One end of a connection, as `ss` shows it.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) inode: u64,
    pub(super) pids: Vec<u32>,
    pub(super) received: u64,
    pub(super) host: Host,
    /// For example `"kubectl",pid=1,fd=3`, and further holders.
    pub(super) programs: String,
}

/// A connection that carries the bytes of a session.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// The session that was sent this number of bytes.
    pub(super) number: u32,
    /// Bytes received at the far end, towards the process.
    pub(super) received: u64,
    pub(super) near: Option<End>,
    pub(super) far: End,
}

/// The process of a session.
#[derive(Clone, Debug)]
pub(in crate::lab) struct Process {
    pub(in crate::lab) pid: u32,
    pub(super) parent: u32,
    /// All lines of /proc/PID/cgroup.
    pub(super) cgroups: String,
    /// Name of the pid file with this pid.
    pub(super) exec_id: Option<String>,
}

/// Destination of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Destination {
    ApiServer,
    Kubelet,
    /// The streaming server of the runtime, or of a kubelet that streams to itself.
    Streaming,
}

impl Destination {
    const ALL: [Self; 3] = [Self::ApiServer, Self::Kubelet, Self::Streaming];

    /// Destination of a connection, from its accepting end.
    fn of(end: &End) -> Option<Self> {
        let from = |host: Host| host.address().parse::<IpAddr>().is_ok_and(|address| end.remote.ip() == address);
        let streams = || ["kubelet", "containerd", "dockerd"].iter().any(|name| end.programs.contains(name));
        match end.host {
            Host::Master if end.local.port() == APISERVER_PORT && from(Host::Client) => Some(Self::ApiServer),
            Host::Worker if end.local.port() == KUBELET_PORT && from(Host::Master) => Some(Self::Kubelet),
            Host::Worker if end.local.ip().is_loopback() && streams() => Some(Self::Streaming),
            Host::Master | Host::Worker | Host::Client => None,
        }
    }
}

/// Everything that the oracle observed.
#[derive(Default)]
pub(super) struct Observed {
    pub(super) legs: BTreeMap<Ends, Leg>,
    pub(super) processes: BTreeMap<u32, Process>,
    /// The smallest difference between neighbouring counters.
    pub(super) gap: Option<u64>,
}

impl Observed {
    /// Observes all open sessions after each was sent all its bytes. For each destination, the legs in order of their
    /// counters belong to the sessions in order of their bytes. Headers and TLS records add to a counter, and more to
    /// a larger one, so the order holds.
    pub(super) fn of_all(sessions: &[Planned], spacing: u64) -> Result<Self> {
        let mut observed = Self { processes: processes(sessions)?, ..Self::default() };
        observed.add_legs(sessions, |legs, destination| ranked(legs, sessions, spacing, destination))?;
        Ok(observed)
    }

    /// Observes one session while others come and go. A leg belongs to the session if its counter lies between that
    /// session's bytes and those of the next larger one.
    pub(super) fn of_one(session: &Planned, open: &[Planned], spacing: u64) -> Result<Self> {
        let mut observed = Self { processes: processes(std::slice::from_ref(session))?, ..Self::default() };
        observed.add_legs(open, |legs, _destination| Ok(by_interval(legs, open, spacing)))?;
        Ok(observed)
    }

    /// Identifies a session without a token by its exec id or by one of its connections.
    pub(super) fn owner(&self, session: &Session) -> Option<u32> {
        let by_id = |exec_id: &String| {
            let mut processes = self.processes.iter();
            processes.find(|(_, process)| process.exec_id.as_ref() == Some(exec_id)).map(|(number, _)| *number)
        };
        let mut legs = session.links.iter().filter_map(|link| link.tcp.as_ref());
        let by_leg = || legs.find_map(|tcp| self.legs.get(&(tcp.remote, tcp.local))).map(|leg| leg.number);
        session.exec_id.as_ref().and_then(by_id).or_else(by_leg)
    }

    fn add_legs(
        &mut self,
        sessions: &[Planned],
        owners: impl for<'a> Fn(&[&'a End], Destination) -> Result<Vec<(&'a End, u32)>>,
    ) -> Result<()> {
        let ends = sockets()?;
        let least = sessions.iter().map(|session| session.bytes).min().context("no sessions to observe")?;
        for destination in Destination::ALL {
            let mut legs: Vec<&End> = ends
                .values()
                .filter(|end| end.received >= least && Destination::of(end) == Some(destination))
                .collect();
            legs.sort_by_key(|end| end.received);
            let gaps = legs.windows(2).filter_map(|pair| Some(pair.last()?.received - pair.first()?.received));
            self.gap = gaps.chain(self.gap).min();
            for (end, number) in owners(&legs, destination)? {
                let near = ends.get(&(end.remote, end.local)).cloned();
                let leg = Leg { number, received: end.received, near, far: end.clone() };
                self.legs.insert((end.local, end.remote), leg);
            }
        }
        Ok(())
    }
}

fn ranked<'a>(
    legs: &[&'a End],
    sessions: &[Planned],
    spacing: u64,
    destination: Destination,
) -> Result<Vec<(&'a End, u32)>> {
    ensure!(
        legs.len() == sessions.len(),
        "the oracle is ambiguous: {} legs to {destination:?} carry the bytes of {} sessions\nhint: `ss -tinpeH` in each of lab-m and lab-w",
        legs.len(),
        sessions.len()
    );
    let mut sessions: Vec<&Planned> = sessions.iter().collect();
    sessions.sort_by_key(|session| session.bytes);
    for (leg, next) in legs.iter().zip(legs.iter().skip(1)) {
        if next.received - leg.received < spacing / 2 {
            bail!(
                "the oracle is ambiguous: legs to {destination:?} with {} and {} bytes are too close",
                leg.received,
                next.received
            );
        }
    }
    Ok(legs.iter().zip(sessions).map(|(leg, session)| (*leg, session.number)).collect())
}

fn by_interval<'a>(legs: &[&'a End], sessions: &[Planned], spacing: u64) -> Vec<(&'a End, u32)> {
    let owner = |end: &End| {
        sessions.iter().find(|it| (it.bytes..it.bytes + spacing).contains(&end.received)).map(|session| session.number)
    };
    legs.iter().filter_map(|end| Some((*end, owner(end)?))).collect()
}

/// Lists all TCP connections of all hosts.
fn sockets() -> Result<BTreeMap<Ends, End>> {
    let mut ends = BTreeMap::new();
    for host in Host::ALL {
        let text = run(host.command("ss")?.args(["-tinpeHO", "state", "connected"]))?;
        ends.extend(text.lines().filter_map(|line| end(line, host)).map(|end| ((end.local, end.remote), end)));
    }
    Ok(ends)
}

/// Parses `ESTAB 0 0 LOCAL REMOTE users:(("kubectl",pid=1,fd=3)) ino:5 sk:6 … bytes_received:7 …`
fn end(line: &str, host: Host) -> Option<End> {
    let mut words = line.split_whitespace().skip(3);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let programs = line.split_once("users:((")?.1.split("))").next()?;
    let number = |name: &str| line.split_once(name)?.1.split_whitespace().next()?.parse().ok();
    Some(End {
        local,
        remote,
        inode: number(" ino:")?,
        pids: programs.split("pid=").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok()).collect(),
        // `ss` omits counters that are zero.
        received: number(" bytes_received:").unwrap_or(0),
        host,
        programs: programs.to_owned(),
    })
}

/// Parses an address. An IPv4 address on an IPv6 socket is the same address.
fn address(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Finds the processes with exactly the planned commands.
pub(in crate::lab) fn processes(sessions: &[Planned]) -> Result<BTreeMap<u32, Process>> {
    let wanted: BTreeMap<[String; 3], u32> = sessions.iter().map(|it| (it.command(), it.number)).collect();
    let exec_ids = exec_ids();
    let mut found = BTreeMap::new();
    // Skip processes that end during the scan: they belong to no open session.
    for process in procfs::process::all_processes().context("cannot list /proc")?.filter_map(Result::ok) {
        let Ok(command) =
            process.cmdline().map_err(drop).and_then(|words| <[String; 3]>::try_from(words).map_err(drop))
        else {
            continue;
        };
        let Some(number) = wanted.get(&command) else { continue };
        let Ok(stat) = process.stat() else { continue };
        let pid = u32::try_from(stat.pid)?;
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let exec_id = exec_ids.get(&pid).cloned();
        let process = Process { pid, parent: u32::try_from(stat.ppid)?, cgroups, exec_id };
        if let Some(other) = found.insert(*number, process) {
            bail!("two processes run {}: {} and {pid}", command.join(" "), other.pid);
        }
    }
    Ok(found)
}

/// Exec ids by the pid in their pid file. If several files hold the same pid, the newest counts.
fn exec_ids() -> BTreeMap<u32, String> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let containers = TASKS.iter().flat_map(|dir| entries(Path::new(dir)));
    let files = containers.flat_map(|dir| entries(&dir).collect::<Vec<_>>());
    let mut files: Vec<(SystemTime, PathBuf)> = files
        .filter(|file| {
            file.extension().is_some_and(|it| it == "pid") && file.file_stem().is_some_and(|it| it != "init")
        })
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)))
        .collect();
    files.sort();
    let read = |file: &Path| {
        let pid = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        Some((pid, file.file_stem()?.to_str()?.to_owned()))
    };
    files.iter().filter_map(|(_, file)| read(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Destination, Planned, by_interval, end, ranked};
    use crate::lab::network::Host;

    fn leg(port: u16, received: u64) -> super::End {
        let line = format!(
            "ESTAB 0 0 [::ffff:192.168.205.11]:10250 192.168.205.10:{port} users:((\"kubelet\",pid=5,fd=9)) \
             timer:(keepalive,9sec,0) ino:77 sk:1 <-> ts sack bytes_sent:5 bytes_received:{received} segs_out:1"
        );
        end(&line, Host::Worker).expect("line of ss parses")
    }

    #[test]
    fn ss_line_is_parsed() {
        let end = leg(4_000, 123);
        assert_eq!((end.inode, end.received, end.pids.as_slice()), (77, 123, &[5][..]));
        assert_eq!(end.local.to_string(), "192.168.205.11:10250");
        assert_eq!(Destination::of(&end), Some(Destination::Kubelet));
    }

    #[test]
    fn legs_match_sessions_in_order_of_bytes() {
        let sessions = Planned::all(1..=2, 10_000);
        let (small, large) = (leg(1, 33_000), leg(2, 44_500));
        let owned =
            ranked(&[&small, &large], &sessions, 10_000, Destination::Kubelet).expect("two legs match two sessions");
        assert_eq!(
            owned.iter().map(|(end, number)| (end.remote.port(), *number)).collect::<Vec<_>>(),
            [(1, 1), (2, 2)]
        );
        let near = leg(3, 34_000);
        assert!(ranked(&[&small, &near], &sessions, 10_000, Destination::Kubelet).is_err(), "counters are too close");
        assert!(ranked(&[&small], &sessions, 10_000, Destination::Kubelet).is_err(), "one leg is missing");
    }

    #[test]
    fn partly_filled_leg_matches_no_session() {
        let sessions = [Planned::new(7, 1, 20_000)];
        let (full, half) = (leg(1, 43_000), leg(2, 30_000));
        assert_eq!(by_interval(&[&half, &full], &sessions, 20_000).len(), 1);
    }
}
