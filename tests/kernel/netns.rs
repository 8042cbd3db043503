//! Network namespaces for tests.

use std::{fs, os::fd::AsFd, path::Path, process::Command, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace that goes with this.
pub(crate) struct NetNs(pub(crate) String);

impl NetNs {
    pub(crate) fn make(name: &str) -> Self {
        let netns = Self(format!("execpath-test-{name}-{}", std::process::id()));
        netns.ip(&["netns", "add", &netns.0]);
        netns.ip(&["-n", &netns.0, "link", "set", "lo", "up"]);
        netns
    }

    pub(crate) fn ip(&self, arguments: &[&str]) {
        assert!(Command::new("ip").args(arguments).status().expect("ip runs").success(), "{}", self.0);
    }

    /// Does something in there.
    pub(crate) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = fs::File::open(Path::new("/run/netns").join(&self.0)).expect("it is there");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
                act()
            });
            inside.join().expect("it is done")
        })
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
