//! The folder over restarts, with damage and with files of strangers.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use tempfile::TempDir;

use super::*;

const HOST: &str = "client";

/// A folder for a queue, in a folder of its own.
struct Place {
    parent: TempDir,
    disk: Disk,
}

impl Place {
    fn new(bytes: u64) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let disk = Disk { folder: parent.path().join("queue"), bytes };
        Self { parent, disk }
    }

    fn open(&self, run: &str) -> Folder {
        Folder::open(&self.disk, "prod", HOST, run).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.disk.folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|ending| ending == "queue")).collect();
        files.sort();
        files
    }
}

/// Ids of everything that waits, oldest first. Nothing is left.
fn drain(folder: &mut Folder) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(stored) = folder.first() {
        assert_eq!(folder.first(), Some(stored.clone()), "a batch stays until it is passed");
        ids.push(stored.id);
        folder.pass();
    }
    assert_eq!(folder.bytes(), 0);
    ids
}

#[test]
fn batches_survive_restarts_in_order() {
    let place = Place::new(64 << 10);
    let frames: Vec<Vec<u8>> = (0..40_u8).map(|number| vec![number; 1_000]).collect();
    let mut folder = place.open("boot.1");
    for (number, frame) in (0..).zip(&frames) {
        folder.store(number, 7, frame).unwrap();
    }
    assert!(place.files().len() > 3);
    assert_eq!(folder.bytes(), place.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>());
    drop(folder);
    let mut folder = place.open("boot.2");
    folder.store(0, 1, b"later").unwrap();
    for (number, frame) in frames.iter().enumerate() {
        let stored = folder.first().unwrap();
        assert_eq!(stored, Stored { id: format!("boot.1.{number}"), observations: 7, frame: frame.clone() });
        folder.pass();
    }
    assert_eq!(drain(&mut folder), ["boot.2.0"]);
    assert!(place.files().is_empty());
}

#[test]
fn files_are_for_their_owner_alone() {
    let place = Place::new(64 << 10);
    let mut folder = place.open("boot.1");
    folder.store(0, 1, b"x").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.disk.folder), mode(&place.files()[0])), (0o700, 0o600));
    let error = |place: &Place| Folder::open(&place.disk, "prod", HOST, "boot.1").err().unwrap().to_string();
    assert_eq!(error(&place), "another execpath uses it");
    drop(folder);
    fs::set_permissions(&place.disk.folder, fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(error(&place), "other users can enter it: `chmod 700`");
    let link = place.parent.path().join("link");
    symlink(&place.disk.folder, &link).unwrap();
    let linked = Disk { folder: link, bytes: 1 << 20 };
    assert!(Folder::open(&linked, "prod", HOST, "boot.1").is_err());
}

#[test]
fn cut_or_changed_files_give_whole_batches_before_the_damage() {
    let place = Place::new(1 << 20);
    let fill = || {
        let mut folder = place.open("boot.1");
        (0..3).for_each(|number| folder.store(number, 1, &[b'x'; 100]).unwrap());
        place.files().remove(0)
    };
    let file = fill();
    let whole = fs::read(&file).unwrap();
    let (line, record) = (whole.len() - 3 * (HEAD + 100), HEAD + 100);
    for cut in 0..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let expected = cut.saturating_sub(line) / record;
        assert_eq!(drain(&mut place.open("boot.2")).len(), expected, "cut after {cut}");
        assert!(place.files().is_empty());
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        fs::write(&file, changed).unwrap();
        assert_eq!(drain(&mut place.open("boot.2")).len(), at.saturating_sub(line) / record, "changed at {at}");
    }
    // A length of 4 GiB takes no memory.
    let mut huge = whole[..line].to_vec();
    huge.extend([0xff; 200]);
    fs::write(&file, huge).unwrap();
    assert!(drain(&mut place.open("boot.2")).is_empty());
}

#[test]
fn files_of_strangers_are_left_out() {
    let place = Place::new(1 << 20);
    drop(place.open("boot.1"));
    let secret = place.parent.path().join("secret");
    fs::write(&secret, "execpath-queue 1 prod client boot.1\n").unwrap();
    let path = |name: &str| place.disk.folder.join(name);
    symlink(&secret, path("prod.0000000000000001.queue")).unwrap();
    fs::hard_link(&secret, path("prod.0000000000000002.queue")).unwrap();
    fs::create_dir(path("prod.0000000000000003.queue")).unwrap();
    rustix::fs::mknodat(CWD, path("prod.0000000000000004.queue"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    for name in ["prod.9999999999999999.queue", "prod.1.queue", "other.0000000000000001.queue", "prod..queue"] {
        fs::write(path(name), "x").unwrap();
    }
    let mut folder = place.open("boot.2");
    assert_eq!(folder.first(), None);
    folder.store(0, 1, b"x").unwrap();
    assert_eq!(drain(&mut folder), ["boot.2.0"]);
    assert_eq!(place.files().len(), 8, "nothing of them is removed");
    assert!(secret.exists());
}

#[test]
fn files_of_another_host_are_not_published() {
    let place = Place::new(1 << 20);
    let mut other = Folder::open(&place.disk, "prod", "other", "boot.1").unwrap();
    other.store(0, 1, b"x").unwrap();
    drop(other);
    assert!(drain(&mut place.open("boot.2")).is_empty());
}

#[test]
fn count_without_room_survives_restarts() {
    let place = Place::new(1 << 20);
    let mut folder = place.open("boot.1");
    assert_eq!(folder.left_out(), 0);
    folder.keep_left_out(123_456);
    folder.keep_left_out(99);
    drop(folder);
    assert_eq!(place.open("boot.2").left_out(), 99);
    for damaged in ["x", "12", "99999999999999999999\n", "-0000000000000000001\n"] {
        fs::write(place.disk.folder.join("prod.lost"), damaged).unwrap();
        assert_eq!(place.open("boot.2").left_out(), 0, "{damaged:?}");
    }
}
