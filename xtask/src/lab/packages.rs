//! The Debian packages that the lab needs, and their installation.

use std::path::Path;

use anyhow::Result;

use super::state::Runtime;
use crate::apt::install;
use crate::progress::Progress;
use crate::tools::find;

/// Directory of Debian's CNI plug-ins.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// A program that the lab calls, and its package.
struct Need {
    program: &'static str,
    package: &'static str,
}

const ALWAYS: [Need; 11] = [
    Need { program: "containerd", package: "containerd" },
    Need { program: "runc", package: "runc" },
    Need { program: "etcd", package: "etcd-server" },
    Need { program: "ip", package: "iproute2" },
    Need { program: "busybox", package: "busybox-static" },
    Need { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
    // Tools with which tests inject faults: a probe without a kubelet, a disk in a file, killing by pattern, a packet
    // filter, a certificate.
    Need { program: "curl", package: "curl" },
    Need { program: "mkfs.ext4", package: "e2fsprogs" },
    Need { program: "pkill", package: "procps" },
    Need { program: "iptables", package: "iptables" },
    Need { program: "openssl", package: "openssl" },
];

const DOCKER: [Need; 3] = [
    Need { program: "dockerd", package: "docker.io" },
    // dockershim calls them for port-forward and for a pod's address.
    Need { program: "socat", package: "socat" },
    Need { program: "nsenter", package: "util-linux" },
];

/// Packages of the missing programs.
fn missing(runtime: Runtime, present: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let docker = match runtime {
        Runtime::Docker => DOCKER.as_slice(),
        Runtime::Containerd => &[],
    };
    let needs = ALWAYS.iter().chain(docker);
    needs.filter(|need| !present(need.program)).map(|need| need.package).collect()
}

fn is_present(program: &str) -> bool {
    if program.starts_with('/') { Path::new(program).exists() } else { find(program).is_some() }
}

/// Installs the missing packages, or fails with the command that installs them.
pub(super) fn ensure(runtime: Runtime, progress: &Progress) -> Result<()> {
    install(&missing(runtime, is_present), progress)
}

#[cfg(test)]
mod tests {
    use super::missing;
    use crate::lab::state::Runtime;

    #[test]
    fn complete_machine_misses_no_package() {
        assert!(missing(Runtime::Docker, |_| true).is_empty());
    }

    #[test]
    fn docker_package_is_only_for_docker() {
        assert!(!missing(Runtime::Containerd, |_| false).contains(&"docker.io"));
        assert!(missing(Runtime::Docker, |_| false).contains(&"docker.io"));
        assert_eq!(missing(Runtime::Containerd, |program| program != "etcd"), ["etcd-server"]);
    }
}
