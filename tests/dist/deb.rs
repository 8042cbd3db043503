//! The package for Debian: installed, used, removed and purged in a root of Debian 12.

use std::{env, fs, path::PathBuf};

use execpath_tests::binary::{Ran, finish};

use crate::{artefact, run, sandbox};

/// A root of Debian 12 with the essential packages, made once by debootstrap(8).
fn debian() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("a home")).join(".cache"));
    let root = cache.join("execpath/debian-12");
    if !root.exists() {
        let new = cache.join("execpath/debian-12.new");
        if new.exists() {
            fs::remove_dir_all(&new).expect("leftovers can be removed");
        }
        run("debootstrap", ["--variant=minbase", "bookworm", &new.display().to_string()]);
        fs::rename(&new, &root).expect("the complete root can be moved");
    }
    root
}

/// Mounts the root with changes in memory, in the folder `$3`, and installs the package. `in_root` runs a command in the root.
const SETUP: &str = r#"
work=$3
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }
cp "$2" "$root/tmp/execpath.deb"
in_root dpkg --install /tmp/execpath.deb >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"#;

fn in_debian(test: &str) -> Ran {
    let script = format!("{SETUP}\n{test}");
    let work = tempfile::tempdir().expect("a folder");
    let ran = finish(&mut sandbox::script(&script, &[&debian(), &artefact("_amd64.deb"), work.path()]));
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    ran
}

#[test]
fn installed_package_works_and_purge_leaves_nothing() {
    let ran = in_debian(
        r#"
        in_root execpath --version
        in_root test -s /usr/share/man/man1/execpath-record.1.gz -a -s /usr/share/bash-completion/completions/execpath
        in_root test -s /lib/systemd/system/execpath-record.service -o -s /usr/lib/systemd/system/execpath-record.service
        in_root mkdir -p /var/lib/execpath
        in_root touch /var/lib/execpath/record.000001.jsonl.zst
        in_root dpkg --remove execpath >"$work/log" 2>&1
        in_root test -e /etc/execpath/record.conf -a -e /var/lib/execpath/record.000001.jsonl.zst
        ! in_root test -e /usr/bin/execpath
        in_root dpkg --purge execpath >"$work/log" 2>&1
        echo left:
        cd "$work/upper"
        # dpkg's own records, and the copy of the package.
        find . -mindepth 1 ! -path './var/lib/dpkg*' ! -path './var/log*' ! -path './var/cache*' ! -path ./tmp/execpath.deb \
            ! -type d -o -path '*execpath*' ! -path ./tmp/execpath.deb
        grep -l execpath var/lib/dpkg/status || true
        "#,
    );
    let (used, left) = ran.stdout.split_once("left:\n").expect("both parts");
    assert_eq!(used, format!("execpath {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(left, "", "left by the purge");
}

/// The newer package is this one with another version.
#[test]
fn upgrade_keeps_configuration_and_recordings() {
    let ran = in_debian(
        r#"
        sed -i 's/keep=7/keep=2/' "$root/etc/execpath/record.conf"
        cp "$root/etc/execpath/record.conf" "$work/conf"
        in_root mkdir -p /var/lib/execpath
        in_root touch /var/lib/execpath/record.000001.jsonl.zst
        dpkg-deb --raw-extract "$2" "$work/newer"
        sed -i 's/^Version: .*/Version: 99.0.0-1/' "$work/newer/DEBIAN/control"
        dpkg-deb --root-owner-group --build "$work/newer" "$root/tmp/newer.deb" >"$work/log"
        in_root dpkg --install /tmp/newer.deb >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
        in_root dpkg-query --show --showformat '${Version}\n' execpath
        grep -q keep=2 "$work/conf"
        cmp "$work/conf" "$root/etc/execpath/record.conf"
        in_root test -e /var/lib/execpath/record.000001.jsonl.zst
        in_root execpath --version
        "#,
    );
    assert_eq!(ran.stdout, format!("99.0.0-1\nexecpath {}\n", env!("CARGO_PKG_VERSION")));
}

/// The command of the unit, with its configuration, as a user who has the capabilities of the unit and no others.
#[test]
fn command_of_unit_records_with_its_capabilities_alone() {
    let ran = in_debian(
        r#"
        unit=$(ls "$root"/usr/lib/systemd/system/execpath-record.service "$root"/lib/systemd/system/execpath-record.service 2>/dev/null | head -1)
        start=$(sed -n 's/^ExecStart=//p' "$unit")
        bounds=$(sed -n 's/^CapabilityBoundingSet=//p' "$unit" | tr 'A-Z ' 'a-z,' | sed 's/cap_/+/g')
        mkdir -m 700 "$root/var/lib/execpath"
        # A function in the background would be one more process, which gets the signal.
        chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c '
            set -a; . /etc/execpath/record.conf; STATE_DIRECTORY=/var/lib/execpath; set +a
            eval "exec setpriv --bounding-set=-all,$1 --inh-caps=-all --no-new-privs $2"
        ' sh "$bounds" "$start" 2>"$work/stderr" &
        recorder=$!
        trap 'kill -TERM $recorder 2>/dev/null || :' EXIT
        until grep '^recording: ' "$work/stderr" >&2; do
            kill -0 $recorder || { cat "$work/stderr"; exit 1; }
            sleep 0.1
        done
        in_root execpath demo -- echo hello >"$work/demo" 2>&1 || { cat "$work/demo" "$work/stderr"; exit 1; }
        kill -TERM $recorder
        wait $recorder || { cat "$work/stderr"; exit 1; }
        in_root stat -c '%a %n' /var/lib/execpath/record.000001.jsonl.zst
        in_root execpath replay --kind all /var/lib/execpath/record.000001.jsonl.zst
        "#,
    );
    assert!(ran.stdout.starts_with("600 /var/lib/execpath/record.000001.jsonl.zst\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("echo hello"), "the demo's session is recorded: {}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn package_depends_on_nothing() {
    let deb = artefact("_amd64.deb").display().to_string();
    assert_eq!(run("dpkg-deb", ["--field", &deb, "Depends"]).trim(), "");
}
