//! The tracer leaves nothing behind in the kernel, and several tracers do not disturb each other.

use std::{collections::BTreeSet, error::Error, fs, io};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};

use crate::{
    env::wait_until,
    kubectl::{Exec, mark},
    reported::ReportedSession,
    tracer::Tracer,
};

/// Name of an object type in `fdinfo`, and the ids of all loaded objects of this type.
type ObjectType = (&'static str, fn() -> BTreeSet<u32>);

/// Types of kernel objects that the tracer holds.
const OBJECT_TYPES: [ObjectType; 3] = [
    ("prog", || ids(loaded_programs(), |one| one.id())),
    ("link", || ids(loaded_links(), |one| one.id())),
    ("map", || ids(loaded_maps(), |one| one.id())),
];

/// Ids of all objects, without those that disappear during the listing.
fn ids<T, E: Error + 'static>(all: impl Iterator<Item = Result<T, E>>, id: impl Fn(T) -> u32) -> BTreeSet<u32> {
    let gone = |error: &E| assert!(is_gone(error), "cannot list kernel objects: {error}");
    all.filter_map(|one| one.inspect_err(gone).ok()).map(id).collect()
}

fn is_gone(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.kind() == io::ErrorKind::NotFound,
        None => error.source().is_some_and(is_gone),
    }
}

/// Ids of objects of this type that a process holds open.
fn held(pid: u32, name: &str) -> BTreeSet<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("a process");
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    let field = format!("{name}_id:");
    texts.filter_map(|text| text.lines().find_map(|line| line.strip_prefix(&field)?.trim().parse().ok())).collect()
}

#[test]
fn killed_tracer_leaves_nothing_in_kernel() {
    let mut tracer = Tracer::start(&[]);
    // The tracer is at work, not only loaded.
    let mark = mark();
    assert!(Exec::sh(&format!("echo {mark}")).start().end().status.success());
    tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    let held = OBJECT_TYPES.map(|(name, _)| held(tracer.pid(), name));
    for ((name, loaded), held) in OBJECT_TYPES.iter().zip(&held) {
        assert!(!held.is_empty(), "the tracer holds no {name}");
        assert!(held.is_subset(&loaded()), "{name}");
    }
    tracer.kill();
    for ((name, loaded), held) in OBJECT_TYPES.iter().zip(&held) {
        // The kernel frees the objects later, once no CPU runs them any more.
        wait_until(&format!("every {name} is gone"), || held.is_disjoint(&loaded()).then_some(()));
    }
}

#[test]
fn two_tracers_report_same_session_id() {
    let mut first = Tracer::start(&[]);
    let mut second = Tracer::start(&[]);
    let mark = mark();
    let kubectl = Exec::sh(&format!("echo {mark}; sleep 1")).start();
    let session =
        [&mut first, &mut second].map(|tracer| tracer.wait_for(&mark, "is complete", ReportedSession::is_complete));
    assert_eq!(session[0].id(), session[1].id());
    assert_eq!(session[0].legs(), session[1].legs());
    assert_eq!(session[0].roles(), session[1].roles());
    assert!(kubectl.end().status.success());
    // A tracer that exits takes nothing from the other one.
    first.wait_for(&mark, "is closed", ReportedSession::is_closed);
    first.finish().holds_only(std::slice::from_ref(&mark));
    let later = crate::kubectl::mark();
    assert!(Exec::sh(&format!("echo {later}")).start().end().status.success());
    second.wait_for(&later, "is closed", ReportedSession::is_closed);
    second.finish().holds_only(&[mark, later]);
}
