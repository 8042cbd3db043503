//! Parts of the host that the tracer's capabilities hide, found by trying.

use std::path::Path;

use super::{
    bpf_scan,
    container::Root,
    descriptors, namespaces,
    procfs::{self, Proc},
};
use crate::{
    host_paths,
    model::{Reach, is_runtime_comm, runtimes},
};

/// Runtimes whose files are tried. A host has one or two.
const MAX_RUNTIMES: usize = 8;

/// Tries every process, the folders of the runtimes, and the iterator over open files. Opens files, and reads none.
#[must_use]
pub fn reach() -> Reach {
    let paths = host_paths::get();
    let proc = Proc::new(&paths.proc);
    let own = procfs::namespace_of(Path::new("/proc/self/ns/net"));
    let pids = proc.pids();
    let hidden_processes = pids.iter().filter(|pid| descriptors::is_hidden(&proc, **pid)).count();
    let (_, namespaces) = namespaces::processes(&proc, None);
    let of_runtimes = pids.iter().filter(|pid| proc.comm(**pid).is_some_and(|comm| is_runtime_comm(&comm)));
    let elsewhere = of_runtimes.take(MAX_RUNTIMES).map(|pid| proc.path(*pid, "root"));
    let roots: Vec<Root> =
        [paths.root.clone()].into_iter().chain(elsewhere).filter_map(|root| Root::open(&root)).collect();
    let folders = runtimes().flat_map(|one| one.bundles.iter().copied().chain(one.names.folder));
    let hidden_folders = folders.filter(|folder| roots.iter().any(|root| root.hides(folder))).map(str::to_owned);
    Reach {
        hidden_processes: u64::try_from(hidden_processes).unwrap_or(u64::MAX),
        hidden_folders: hidden_folders.collect(),
        other_namespaces: namespaces.keys().any(|netns| Some(*netns) != own),
        iterator_refused: bpf_scan::attempt().err().map(|error| first_line(&error.to_string())),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_never_hidden() {
        let reach = reach();
        let processes = Proc::new("/proc").pids().len();
        assert!(usize::try_from(reach.hidden_processes).unwrap() < processes, "{reach:?}");
        assert_eq!(first_line("a\nb"), "a");
    }
}
