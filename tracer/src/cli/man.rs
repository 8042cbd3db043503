//! `man`: manual pages, made of the same texts as `--help`.

use std::io::{self, Write};

use clap_mangen::Man;

use super::{
    args,
    error::Failure,
    exit::{Exit, STATUS},
};
use crate::confine;

/// Prints the page of one command, or of the program.
pub(super) fn man(args: &args::Man) -> Result<Exit, Failure> {
    confine::to_files(&[], &[]);
    let text = page(args.of.as_deref())?;
    io::stdout().write_all(&text).map_err(|error| Failure::writing(&error))?;
    Ok(Exit::Done)
}

fn page(of: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut command = args::command(args::BINARY);
    // Gives each command the name of its page: `execpath-trace`.
    command.build();
    let command = match of {
        None => command,
        Some(name) => command.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::usage(format!("no command `{name}`"), format!("`{} --help` lists the commands", args::BINARY))
        })?,
    };
    let name = command.get_display_name().unwrap_or(args::BINARY).to_owned();
    let page = Man::new(command)
        .title(name)
        .section("1")
        // The date of a build would make two builds differ.
        .date("")
        .source(format!("execpath {}", env!("CARGO_PKG_VERSION")))
        .manual("execpath manual");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| Failure::writing(&error))?;
    text.extend_from_slice(exit_status().as_bytes());
    Ok(text)
}

/// The section EXIT STATUS.
fn exit_status() -> String {
    let rows = STATUS.iter().map(|(exit, about)| format!(".TP\n\\fB{}\\fR\n{about}\n", exit.code()));
    format!(".SH \"EXIT STATUS\"\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::page;

    fn text(of: Option<&str>) -> String {
        String::from_utf8(page(of).expect("a page")).unwrap()
    }

    #[test]
    fn every_listed_command_has_a_page() {
        let program = text(None);
        assert!(program.starts_with(".ie"), "{program}");
        for command in super::args::command("execpath").get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert!(program.contains(&format!("execpath\\-{name}(1)")), "{name}");
            assert!(text(Some(name)).contains(&format!(".TH execpath-{name} 1")), "{}", text(Some(name)));
        }
    }

    #[test]
    fn page_has_options_examples_and_exit_codes() {
        let page = text(Some("record"));
        for part in ["\\-\\-rotate", "Examples:", ".SH \"EXIT STATUS\"", "\\fB3\\fR"] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
    }

    #[test]
    fn unknown_command_is_refused() {
        assert!(page(Some("nothing")).is_err());
    }
}
