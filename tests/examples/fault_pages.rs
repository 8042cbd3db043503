//! Writes a page for each fault that a diagnosis names: `cargo xtask docs [--check]`.

use std::{collections::BTreeMap, error::Error, fmt::Write as _, fs, path::Path};

use execpath::{
    diagnose::{APART, FAULTS, Fault, Kinds, Made, Step, shown},
    model::Severity,
};

/// Columns of a page.
const WIDTH: usize = 120;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let check = match words.as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("--check or nothing".into()),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults");
    let mut pages: BTreeMap<String, String> =
        FAULTS.iter().map(|fault| Ok((format!("{}.md", fault.code), page(fault)?))).collect::<Result<_>>()?;
    pages.insert("README.md".to_owned(), index()?);
    fs::create_dir_all(&folder)?;
    let mut wrong = Vec::new();
    for file in fs::read_dir(&folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if !pages.contains_key(&name) {
            wrong.push(format!("docs/faults/{name} belongs to no fault"));
        }
    }
    for (name, text) in &pages {
        let path = folder.join(name);
        if !check {
            fs::write(path, text)?;
        } else if fs::read_to_string(path).is_ok_and(|there| there != *text) || !folder.join(name).exists() {
            wrong.push(format!("docs/faults/{name} is not what the rules say: cargo xtask docs"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn page(fault: &Fault) -> Result<String> {
    let mut page = String::new();
    writeln!(page, "# {}: {}\n", fault.code, fault.name)?;
    writeln!(page, "[All faults](README.md). Made by `cargo xtask docs`.\n")?;
    writeln!(page, "{}\n", folded("", "", fault.means))?;
    if fault.severity == Severity::Info {
        writeln!(page, "This is no fault: `execpath diagnose` reports it and its exit code stays 0.\n")?;
    }
    writeln!(page, "## How it comes about\n\n{}\n", folded("", "", fault.why))?;
    writeln!(page, "## What looks alike\n")?;
    for apart in fault.apart {
        let name = FAULTS.iter().find(|other| other.code == apart.code).map_or("", |other| other.name);
        let text = format!("**[{0}]({0}.md), {name}**: {1}.", apart.code, apart.by);
        writeln!(page, "{}", folded("* ", "  ", &text))?;
    }
    writeln!(page, "\n## What to do\n")?;
    for next in fault.next {
        writeln!(page, "{}", folded("* ", "  ", &shown(next)))?;
    }
    writeln!(page, "\n## By hand\n\n`execpath diagnose` fills in the numbers of the session.\n\n```sh")?;
    for manual in fault.manual {
        writeln!(page, "{}", shown(manual))?;
    }
    writeln!(page, "```\n\n## What it takes to be named\n\n{}\n", folded("", "", fault.needs))?;
    writeln!(page, "Asked for at the step \"{}\" of the [decision](README.md#the-decision).", fault.step.question())?;
    writeln!(page, "Kinds of sessions: {}.", kinds(fault.kinds))?;
    writeln!(page, "How it is tested: {}.\n", made(fault.made))?;
    writeln!(page, "## Sources\n")?;
    for source in fault.sources {
        writeln!(page, "* {}", linked(source))?;
    }
    Ok(page)
}

fn index() -> Result<String> {
    let mut page = String::from("# Faults that a diagnosis names\n\n");
    let seconds = APART.as_millis() / 1_000;
    let intro = format!(
        "`execpath diagnose` names at most one fault per session: the cause, not its consequences. It also names leftovers that \
         belong to no session. An uncertain rule names nothing. \"Nothing moved\" compares two samples at least {seconds} seconds \
         apart. Codes never change their meaning. Made by `cargo xtask docs`."
    );
    writeln!(page, "{}\n", folded("", "", &intro))?;
    writeln!(page, "| code | fault | in a word | how it is tested |\n|---|---|---|---|")?;
    let mut faults: Vec<&Fault> = FAULTS.iter().collect();
    faults.sort_by_key(|fault| fault.code);
    for fault in &faults {
        let Fault { code, name, short, .. } = fault;
        let no_fault = if fault.severity == Severity::Info { " (no fault)" } else { "" };
        writeln!(page, "| [{code}]({code}.md) | {name}{no_fault} | {short} | {} |", made(fault.made))?;
    }
    writeln!(page, "\n## The decision\n\nIn this order; the first that fits is named.\n")?;
    for step in Step::ALL {
        let codes: Vec<&str> = FAULTS.iter().filter(|fault| fault.step == step).map(|fault| fault.code).collect();
        writeln!(page, "{}", folded("1. ", "   ", &format!("{} {}", step.question(), codes.join(", "))))?;
    }
    writeln!(page, "\n## Health\n")?;
    let health = "`execpath ls` shows a session in a word: `ok`, `waiting` ([F23](F23.md)), the code of a fault, or `unknown` \
                  where too little of it could be measured: no numbers at all, one sample in which something waits, or a \
                  client on another host that has been silent for longer than kubectl's pings allow.";
    writeln!(page, "{}", folded("", "", health))?;
    Ok(page)
}

fn made(made: Made) -> String {
    match made {
        Made::Lab => "made for real, in a session of the lab".to_owned(),
        Made::LabWith(how) => format!("made for real, in a session of the lab: {how}"),
        Made::Processes => "made for real, with processes".to_owned(),
        Made::Scenario(why) => format!("scenario only: {why}"),
    }
}

const fn kinds(kinds: Kinds) -> &'static str {
    match kinds {
        Kinds::Any => "all",
        Kinds::Command => "all but port-forward and logs",
        Kinds::PortForward => "port-forward",
    }
}

/// `OWNER/REPO#NUMBER` as a link; other sources unchanged.
fn linked(source: &str) -> String {
    let issue = source.rsplit_once('#').filter(|(repository, number)| {
        repository.split('/').count() == 2
            && !repository.contains(' ')
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    issue.map_or_else(
        || source.to_owned(),
        |(repository, number)| format!("[{source}](https://github.com/{repository}/issues/{number})"),
    )
}

/// Folds a text at [`WIDTH`] columns, between words.
fn folded(first: &str, more: &str, text: &str) -> String {
    let mut lines = vec![first.to_owned()];
    let mut is_new = true;
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { continue };
        if !is_new && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{more}{word}"));
            continue;
        }
        if !is_new {
            line.push(' ');
        }
        line.push_str(word);
        is_new = false;
    }
    lines.join("\n")
}
