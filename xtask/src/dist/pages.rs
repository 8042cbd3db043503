//! Manual pages and completions, printed by the binary itself.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::source::Source;
use crate::tools::{command, run};

/// Shells, each with the name of its script.
const SHELLS: [(&str, &str); 3] = [("bash", "execpath"), ("zsh", "_execpath"), ("fish", "execpath.fish")];

/// Writes the pages and scripts into the directory of generated files.
pub(super) fn write(source: &Source, binary: &Path) -> Result<()> {
    let man = source.generated().join("man");
    fs::create_dir_all(&man)?;
    let page = run(command(binary).arg("man"))?;
    let commands = subcommands(&page);
    ensure!(!commands.is_empty(), "the manual page names no commands");
    for name in commands {
        fs::write(man.join(format!("execpath-{name}.1")), run(command(binary).args(["man", name]))?)?;
    }
    fs::write(man.join("execpath.1"), &page)?;
    let completions = source.generated().join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in SHELLS {
        fs::write(completions.join(file), run(command(binary).args(["completions", shell]))?)?;
    }
    Ok(())
}

/// Commands that the program's page refers to: `execpath\-trace(1)`.
fn subcommands(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.trim().strip_prefix("execpath\\-")?.strip_suffix("(1)")).collect()
}

#[cfg(test)]
mod tests {
    use super::subcommands;

    #[test]
    fn commands_are_read_from_page() {
        let page = ".SH SUBCOMMANDS\n.TP\nexecpath\\-ls(1)\nList open sessions\n.TP\nexecpath\\-port\\-x(1)\n";
        assert_eq!(subcommands(page), ["ls", "port\\-x"]);
    }
}
