//! Names of users, from the host's own list. Other databases, such as LDAP, are not queried.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
};

use super::procfs::number;

/// Largest list that is read whole: tens of thousands of users.
const MAX_BYTES: u64 = 4 << 20;
/// Longest name. useradd(8) allows 32 bytes, other tools more.
const MAX_NAME: usize = 256;

/// Names of these users. Users without a name are left out.
pub(super) fn names(list: &Path, uids: &BTreeSet<u32>) -> BTreeMap<u32, String> {
    let mut bytes = Vec::new();
    let read = File::open(list).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return BTreeMap::new();
    }
    let mut names = BTreeMap::new();
    for (uid, name) in bytes.split(|byte| *byte == b'\n').filter_map(entry) {
        // The first entry of a user counts, as in the C library.
        if uids.contains(&uid) {
            names.entry(uid).or_insert(name);
        }
    }
    names
}

/// `name:password:uid:…` (passwd(5)).
fn entry(line: &[u8]) -> Option<(u32, String)> {
    let mut fields = line.split(|byte| *byte == b':');
    let (name, uid) = (fields.next()?, fields.nth(1)?);
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && name.len() <= MAX_NAME)?;
    Some((number(uid)?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_entry_of_the_list_names_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("passwd");
        let text =
            b"root:x:0:0::/root:/bin/sh\n\xff:x:7:7\n:x:8:8\n+\nalice:x:1000:1\nalso:x:1000:1\nx:y:-1\n# c\nlast:x:9";
        std::fs::write(&list, text).unwrap();
        let of = |uids: &[u32]| names(&list, &uids.iter().copied().collect());
        assert_eq!(
            of(&[0, 7, 8, 9, 1000]),
            [(0, "root"), (9, "last"), (1000, "alice")].map(|(uid, name)| (uid, name.to_owned())).into()
        );
        assert_eq!(of(&[1]), BTreeMap::new());
        assert_eq!(names(&folder.path().join("none"), &[0].into()), BTreeMap::new());
        assert_eq!(names(folder.path(), &[0].into()), BTreeMap::new());
    }
}
