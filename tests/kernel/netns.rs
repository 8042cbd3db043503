//! Network namespaces for tests.

use std::{fs, os::fd::AsFd, path::Path, process::Command, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, deleted on drop.
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

    /// Runs a closure in the namespace.
    pub(crate) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = fs::File::open(Path::new("/run/netns").join(&self.0)).expect("the namespace exists");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
                act()
            });
            inside.join().expect("the closure ends")
        })
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
