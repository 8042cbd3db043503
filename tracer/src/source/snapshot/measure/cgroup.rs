//! Limits of a process's cgroups: frozen, out of processes, of memory, or of CPU time. Both versions, also side by side.

use std::{
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use procfs::process::{MountInfo, Process};

use super::super::procfs::{Proc, after, number};
use crate::model::CgroupMeasure;

/// Largest file that is read. The files have one line, or some lines of a key and a number.
const MAX_BYTES: u64 = 16 << 10;
/// Folders above a cgroup that are read. A container's cgroup is some five deep: kubepods, class, pod, container.
const MAX_DEPTH: usize = 16;

/// Mounted hierarchies, as the tracer sees them.
pub(super) struct Hierarchies {
    /// Controllers, root of the mount inside the hierarchy, and mount point. Version 2 has no controllers here.
    mounts: Vec<(Vec<String>, PathBuf, PathBuf)>,
}

/// A cgroup: a folder of a hierarchy.
struct Group {
    folder: PathBuf,
    /// Mount point of the hierarchy.
    top: PathBuf,
    /// Set for version 2.
    unified: bool,
}

impl Hierarchies {
    /// Hierarchies in the tracer's mount namespace.
    pub(super) fn open() -> Self {
        let mounts = Process::myself().and_then(|own| own.mountinfo()).map(|mounts| mounts.0).unwrap_or_default();
        Self { mounts: mounts.into_iter().filter_map(mount).collect() }
    }

    /// Limits of a process's cgroups; `None` if none is in reach.
    pub(super) fn measure(&self, proc: &Proc, pid: u32) -> Option<CgroupMeasure> {
        let text = proc.read(pid, "cgroup")?;
        let group = |controller: &str| self.group(&text, controller);
        let mut measure = CgroupMeasure::default();
        if let Some(group) = group("freezer") {
            measure.frozen = frozen(&group);
        }
        if let Some(group) = group("pids") {
            pids(&group, &mut measure);
        }
        if let Some(group) = group("memory") {
            memory(&group, &mut measure);
        }
        if let Some(group) = group("cpu") {
            cpu(&group, &mut measure);
        }
        (measure != CgroupMeasure::default()).then_some(measure)
    }

    /// Cgroup of a controller: of version 1 if the controller has its own hierarchy, otherwise of version 2.
    fn group(&self, text: &[u8], controller: &str) -> Option<Group> {
        let lines = || {
            text.split(|byte| *byte == b'\n').filter_map(|line| {
                let mut parts = line.splitn(3, |byte| *byte == b':');
                let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                Some((
                    hierarchy == b"0",
                    std::str::from_utf8(controllers).ok()?,
                    Path::new(std::ffi::OsStr::from_bytes(path)),
                ))
            })
        };
        let own = lines().find(|(_, controllers, _)| controllers.split(',').any(|one| one == controller));
        let (unified, path) = match own {
            Some((_, _, path)) => (false, path),
            None => (true, lines().find(|(unified, ..)| *unified)?.2),
        };
        let is_its = |(controllers, ..): &&(Vec<String>, PathBuf, PathBuf)| {
            if unified { controllers.is_empty() } else { controllers.iter().any(|one| one == controller) }
        };
        let (_, root, top) = self.mounts.iter().find(is_its)?;
        // A container mounts a part of the hierarchy: the rest is out of reach.
        let inside = path.strip_prefix(root).ok()?;
        // `/../..` lies above the tracer's own cgroup namespace.
        let is_below = inside.components().all(|part| matches!(part, Component::Normal(_)));
        is_below.then(|| Group { folder: top.join(inside), top: top.clone(), unified })
    }
}

impl Group {
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        read(&self.folder, name)
    }

    /// The cgroup's folder and those above it.
    fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.folder.ancestors().take_while(|folder| folder.starts_with(&self.top)).take(MAX_DEPTH)
    }
}

fn mount(info: MountInfo) -> Option<(Vec<String>, PathBuf, PathBuf)> {
    let controllers = match info.fs_type.as_str() {
        "cgroup2" => Vec::new(),
        "cgroup" => info.super_options.into_keys().collect(),
        _ => return None,
    };
    Some((controllers, PathBuf::from(info.root), info.mount_point))
}

fn read(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(folder.join(name)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The only number in a file; `None` for `max`.
fn value(folder: &Path, name: &str) -> Option<u64> {
    number(read(folder, name)?.trim_ascii())
}

/// The number after a key, in a file with one key a line.
fn keyed(text: &[u8], key: &str) -> Option<u64> {
    number(after(text, format!("{key} ").as_bytes())?)
}

/// True if the cgroup or one above it is frozen: the files of both versions show the result.
fn frozen(group: &Group) -> Option<bool> {
    if group.unified {
        keyed(&group.read("cgroup.events")?, "frozen").map(|frozen| frozen == 1)
    } else {
        // The state is FREEZING until all processes have stopped.
        group.read("freezer.state").map(|state| state.trim_ascii() != b"THAWED")
    }
}

/// Current value and limit that are closest, among the cgroup and those above it, and the limit's folder.
fn tightest(group: &Group, current: &str, limit: &str) -> (Option<u64>, Option<u64>, Option<PathBuf>) {
    let limits = group.upwards().filter_map(|folder| Some((value(folder, current)?, value(folder, limit)?, folder)));
    // Version 1 writes "no limit" of memory as the largest multiple of a page.
    let real = limits.filter(|(_, limit, _)| *limit < (1 << 62));
    match real.min_by_key(|(current, limit, _)| limit.saturating_sub(*current)) {
        Some((current, limit, folder)) => (Some(current), Some(limit), Some(folder.to_owned())),
        None => (value(&group.folder, current), None, None),
    }
}

fn pids(group: &Group, measure: &mut CgroupMeasure) {
    let (current, limit, folder) = tightest(group, "pids.current", "pids.max");
    (measure.pids, measure.pids_max) = (current, limit);
    // The cgroup of the refused fork counts; newer kernels also count at the limit's cgroup.
    let counts =
        [Some(group.folder.clone()), folder].into_iter().flatten().filter_map(|folder| read(&folder, "pids.events"));
    measure.pids_refused = counts.filter_map(|text| keyed(&text, "max")).max();
}

fn memory(group: &Group, measure: &mut CgroupMeasure) {
    if group.unified {
        let (current, limit, folder) = tightest(group, "memory.current", "memory.max");
        (measure.memory, measure.memory_max) = (current, limit);
        let events = |key: &str| {
            let texts = [Some(group.folder.clone()), folder.clone()].into_iter().flatten();
            texts.filter_map(|folder| keyed(&read(&folder, "memory.events")?, key)).max()
        };
        measure.memory_high_events = events("high");
        measure.memory_limit_hits = events("max");
        measure.memory_kills = events("oom_kill");
    } else {
        let (current, limit, folder) = tightest(group, "memory.usage_in_bytes", "memory.limit_in_bytes");
        (measure.memory, measure.memory_max) = (current, limit);
        let folder = folder.unwrap_or_else(|| group.folder.clone());
        measure.memory_limit_hits = value(&folder, "memory.failcnt");
        measure.memory_kills = read(&folder, "memory.oom_control").and_then(|text| keyed(&text, "oom_kill"));
    }
}

/// CPU time per period, and the period, in microseconds; `None` without a limit.
fn quota(folder: &Path, unified: bool) -> Option<(u64, u64)> {
    let (quota, period) = if unified {
        let text = read(folder, "cpu.max")?;
        let mut words = text.trim_ascii().split(|byte| *byte == b' ');
        (number(words.next()?)?, number(words.next()?)?)
    } else {
        // -1 stands for no limit.
        (value(folder, "cpu.cfs_quota_us")?, value(folder, "cpu.cfs_period_us")?)
    };
    (period > 0).then_some((quota, period))
}

/// Limit with the smallest share, among the cgroup and those above it, and how often it stopped the group.
fn cpu(group: &Group, measure: &mut CgroupMeasure) {
    let limits = group.upwards().filter_map(|folder| Some((quota(folder, group.unified)?, folder)));
    let tightest = limits.min_by(|((quota, period), _), ((other, others), _)| {
        (u128::from(*quota) * u128::from(*others)).cmp(&(u128::from(*other) * u128::from(*period)))
    });
    let Some(((quota, period), folder)) = tightest else { return };
    let Some(stat) = read(folder, "cpu.stat") else { return };
    (measure.cpu_quota_us, measure.cpu_period_us) = (Some(quota), Some(period));
    (measure.cpu_periods, measure.cpu_throttled) = (keyed(&stat, "nr_periods"), keyed(&stat, "nr_throttled"));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Hierarchies in a temporary folder.
    fn made(root: &Path) -> Hierarchies {
        let mount = |controllers: &[&str], name: &str| {
            (controllers.iter().map(|one| (*one).to_owned()).collect(), PathBuf::from("/"), root.join(name))
        };
        Hierarchies {
            mounts: vec![
                mount(&["freezer"], "freezer"),
                mount(&["memory"], "memory"),
                mount(&["cpu", "cpuacct"], "cpu"),
                mount(&[], "unified"),
            ],
        }
    }

    fn measured(root: &Path, cgroup: &str) -> Option<CgroupMeasure> {
        fs::create_dir_all(root.join("proc/7")).unwrap();
        fs::write(root.join("proc/7/cgroup"), cgroup).unwrap();
        made(root).measure(&Proc::new(root.join("proc")), 7)
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn version_2_reports_frozen_and_closest_limit() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "unified/pod/c/cgroup.events", "populated 1\nfrozen 1\n");
        write(root, "unified/pod/c/pids.current", "3\n");
        write(root, "unified/pod/c/pids.max", "max\n");
        write(root, "unified/pod/c/pids.events", "max 0\n");
        write(root, "unified/pod/pids.current", "9\n");
        write(root, "unified/pod/pids.max", "10\n");
        write(root, "unified/pod/pids.events", "max 4\n");
        let measure = measured(root, "0::/pod/c\n").unwrap();
        assert_eq!(
            (measure.frozen, measure.pids, measure.pids_max, measure.pids_refused),
            (Some(true), Some(9), Some(10), Some(4))
        );
        assert_eq!(measure.memory, None, "no file about memory");
    }

    #[test]
    fn version_1_has_a_folder_per_controller() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "freezer/a/freezer.state", "FREEZING\n");
        write(root, "memory/b/memory.usage_in_bytes", "4096\n");
        write(root, "memory/b/memory.limit_in_bytes", "9223372036854771712\n");
        write(root, "memory/b/memory.failcnt", "0\n");
        write(root, "memory/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        let measure = measured(root, "4:memory:/b\n3:freezer:/a\n0::/\n").unwrap();
        assert_eq!((measure.frozen, measure.memory, measure.memory_max), (Some(true), Some(4096), None));
        assert_eq!((measure.memory_limit_hits, measure.memory_kills), (Some(0), Some(2)));
    }

    #[test]
    fn smallest_share_of_cpu_time_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let cpu = |measure: CgroupMeasure| {
            (measure.cpu_quota_us, measure.cpu_period_us, measure.cpu_periods, measure.cpu_throttled)
        };
        write(root, "unified/pod/c/cpu.max", "max 100000\n");
        write(root, "unified/pod/c/cpu.stat", "usage_usec 7\nnr_periods 9\nnr_throttled 8\n");
        write(root, "unified/pod/cpu.max", "1000 100000\n");
        write(root, "unified/pod/cpu.stat", "usage_usec 9\nnr_periods 30\nnr_throttled 29\n");
        let of_version_2 = (Some(1_000), Some(100_000), Some(30), Some(29));
        assert_eq!(cpu(measured(root, "0::/pod/c\n").unwrap()), of_version_2);
        // Half of a CPU is less than two, whatever the lengths of the periods.
        for (path, quota, period) in [("cpu/a/b", "5000", "10000"), ("cpu/a", "200000", "100000")] {
            write(root, &format!("{path}/cpu.cfs_quota_us"), quota);
            write(root, &format!("{path}/cpu.cfs_period_us"), period);
            write(root, &format!("{path}/cpu.stat"), "nr_periods 4\nnr_throttled 3\nthrottled_time 5\n");
        }
        assert_eq!(cpu(measured(root, "2:cpu,cpuacct:/a/b\n").unwrap()), (Some(5_000), Some(10_000), Some(4), Some(3)));
        write(root, "cpu/a/b/cpu.cfs_quota_us", "-1\n");
        write(root, "cpu/a/cpu.cfs_quota_us", "-1\n");
        assert_eq!(measured(root, "2:cpu,cpuacct:/a/b\n"), None, "no limit");
    }

    #[test]
    fn limits_out_of_reach_are_unknown() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(measured(root.path(), "0::/../../elsewhere\n"), None);
        assert_eq!(measured(root.path(), "nonsense"), None);
        assert_eq!(measured(root.path(), "0::/gone\n"), None);
    }
}
