//! Completion of the kubectl plugin. kubectl 1.26 or later runs `kubectl_complete-execpath` with the words of the command line, and
//! offers the lines that it prints (kubernetes/kubectl, pkg/cmd/plugin/plugin_completion.go).

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::Path,
};

use clap_complete::engine::{CompletionCandidate, complete};

use super::{args, error::Failure, exit::Exit};
use crate::confine;

/// Last line of the output: kubectl's shell script completes no files by itself (cobra, `ShellCompDirectiveNoFileComp`). The
/// candidates include files where an option takes one.
const NO_FILES: &str = ":4";
/// As [`NO_FILES`], and the shell appends no space (`ShellCompDirectiveNoSpace`): more of a path may follow.
const NO_FILES_NO_SPACE: &str = ":6";

/// Prints the candidates for the last word.
pub(super) fn print(arguments: &[OsString]) -> Result<Exit, Failure> {
    // Names of files are read, no content.
    confine::to_files(&[Path::new("/")], &[]);
    let here = env::current_dir().ok();
    let text = candidates(arguments, here.as_deref()).map_err(|error| Failure::writing(&error))?;
    io::stdout().write_all(&text).map_err(|error| Failure::writing(&error))?;
    Ok(Exit::Done)
}

fn candidates(arguments: &[OsString], here: Option<&Path>) -> io::Result<Vec<u8>> {
    let last = arguments.len().saturating_sub(1);
    let found = complete(&mut args::command(args::PLUGIN), arguments.to_vec(), last, here)?;
    let mut text = Vec::new();
    let mut directive = NO_FILES;
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let Some(line) = line(candidate) else { continue };
        if line.ends_with('/') {
            directive = NO_FILES_NO_SPACE;
        }
        writeln!(text, "{line}")?;
    }
    writeln!(text, "{directive}")?;
    Ok(text)
}

/// A candidate and its description. A name with a control character is left out: it would be two lines, or a command to the terminal.
fn line(candidate: &CompletionCandidate) -> Option<String> {
    let value = candidate.get_value().to_str()?;
    if value.chars().any(char::is_control) {
        return None;
    }
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.lines().next().unwrap_or_default();
    Some(if help.is_empty() { value.to_owned() } else { format!("{value}\t{help}") })
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs};

    use super::candidates;

    fn lines(words: &[&str], here: Option<&std::path::Path>) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let text = String::from_utf8(candidates(&words, here).unwrap()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn commands_and_options_are_completed() {
        let commands = lines(&["kubectl_complete-execpath", "sh"], None);
        assert!(commands[0].starts_with("show\t"), "{commands:?}");
        assert_eq!(commands.last().unwrap(), ":4");
        let options = lines(&["kubectl_complete-execpath", "trace", "--dur"], None);
        assert!(options[0].starts_with("--duration\t"), "{options:?}");
        let kinds = lines(&["kubectl_complete-execpath", "ls", "--kind", "port"], None);
        assert!(kinds[0].starts_with("port-forward"), "{kinds:?}");
    }

    #[test]
    fn hidden_commands_are_left_out() {
        let all = lines(&["kubectl_complete-execpath", ""], None);
        assert!(all.len() > 10 && !all.iter().any(|line| line.starts_with("man\t")), "{all:?}");
    }

    #[test]
    fn file_names_cannot_forge_lines() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.jsonl", "b\nevil", "c\u{1b}[2J"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let files = lines(&["kubectl_complete-execpath", "replay", ""], Some(folder.path()));
        assert!(files.contains(&"a.jsonl".to_owned()), "{files:?}");
        assert!(!files.iter().any(|line| line.contains("evil") || line.contains('\u{1b}')), "{files:?}");
    }
}
