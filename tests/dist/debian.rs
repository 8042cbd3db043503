//! A root of Debian 12 where a package is installed, and the command of the package's unit in it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use execpath_tests::binary::{Ran, finish};
use serde_json::{Value, json};

use crate::{artefact, pod::kubectl, run, sandbox};

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

/// Mounts the root with changes in memory, in the folder `$3`. `in_root` runs a command in the root.
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
"#;

/// A package of this project.
#[derive(Clone, Copy)]
pub(crate) enum Package {
    /// Installed by dpkg(1) of the root.
    Deb,
    /// Unpacked in the root: its scripts do not run.
    Rpm,
}

impl Package {
    fn file(self) -> PathBuf {
        artefact(match self {
            Self::Deb => "_amd64.deb",
            Self::Rpm => ".x86_64.rpm",
        })
    }

    fn install(self) -> &'static str {
        match self {
            Self::Deb => {
                r#"
                cp "$2" "$root/tmp/execpath.deb"
                in_root dpkg --install /tmp/execpath.deb >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
                "#
            }
            Self::Rpm => {
                r#"
                # rpm2cpio of rpm 4.18 exits with 1 after a whole archive too; cpio refuses a cut one.
                rpm2cpio "$2" | (cd "$root" && cpio --extract --make-directories --quiet)
                "#
            }
        }
    }
}

/// Runs a script in a root where the package, `$2`, is installed.
pub(crate) fn in_debian(package: Package, test: &str) -> Ran {
    in_debian_beside(package, test, None)
}

/// As [`in_debian`]. The words of the command `outside` are the script's fourth and further arguments, `$OUTSIDE_PATH` is its PATH.
fn in_debian_beside(package: Package, test: &str, outside: Option<&Command>) -> Ran {
    let script = format!("{SETUP}\n{}\n{test}", package.install());
    let work = tempfile::tempdir().expect("a folder");
    let (root, package) = (debian(), package.file());
    let mut arguments: Vec<&Path> = vec![&root, &package, work.path()];
    arguments.extend(
        outside
            .into_iter()
            .flat_map(|outside| [outside.get_program()].into_iter().chain(outside.get_args()).map(Path::new)),
    );
    let mut script = sandbox::script(&script, &arguments);
    if let Some(outside) = outside {
        script.env("OUTSIDE_PATH", env::var_os("PATH").unwrap_or_default());
        script.current_dir(outside.get_current_dir().unwrap_or(Path::new(".")));
        for (name, value) in outside.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
    }
    let ran = finish(&mut script);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    ran
}

/// The command of the unit, with its configuration, as a user who has the capabilities of the unit and no others. It records an
/// exec of the lab.
pub(crate) fn unit_records_exec_with_its_capabilities_alone(package: Package) {
    let exec = kubectl(&["exec", "web", "-c", "web", "--", "echo", "recorded by the unit"]);
    let ran = in_debian_beside(
        package,
        r#"
        shift 3
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
        PATH=$OUTSIDE_PATH "$@" >&2
        kill -TERM $recorder
        wait $recorder || { cat "$work/stderr"; exit 1; }
        in_root stat -c '%a %n' /var/lib/execpath/record.000001.jsonl.zst
        in_root execpath replay -o json /var/lib/execpath/record.000001.jsonl.zst
        "#,
        Some(&exec),
    );
    let (mode, sessions) = ran.stdout.split_once('\n').expect("two outputs");
    assert_eq!(mode, "600 /var/lib/execpath/record.000001.jsonl.zst");
    let sessions: Vec<Value> = serde_json::from_str(sessions).expect("an array");
    let command = json!(["echo", "recorded by the unit"]);
    let session = sessions.iter().find(|session| session["command"] == command);
    let session = session.unwrap_or_else(|| panic!("no such session: {sessions:#?}\n{}", ran.stderr));
    assert_eq!((&session["complete"], &session["confidence"]), (&json!(true), &json!("exact")), "{session:#}");
}
