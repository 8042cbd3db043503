//! The package for Debian: installed, used, removed and purged in a root of Debian 12.

use crate::{
    artefact,
    debian::{Package, in_debian, unit_records_exec_with_its_capabilities_alone},
    run,
};

#[test]
fn installed_package_works_and_purge_leaves_nothing() {
    let ran = in_debian(
        Package::Deb,
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
        Package::Deb,
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

#[test]
fn command_of_unit_records_with_its_capabilities_alone() {
    unit_records_exec_with_its_capabilities_alone(Package::Deb);
}

#[test]
fn package_depends_on_nothing() {
    let deb = artefact("_amd64.deb").display().to_string();
    assert_eq!(run("dpkg-deb", ["--field", &deb, "Depends"]).trim(), "");
}
