//! Directories as roots, in a mount namespace of their own: nothing that a test mounts or writes stays.

use std::{path::Path, process::Command};

/// Runs this script in a new mount namespace. The script gets the arguments as `$1` and so on. `set -eu` is in effect.
pub(crate) fn script(text: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg(format!("set -eu\n{text}")).arg("sh").args(arguments);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}
