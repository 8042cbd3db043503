//! The configuration of the agent: a TOML file whose keys are options. The file becomes words of the command line, so that each key is
//! checked, documented and explained as its option is.

use std::{ffi::OsString, fs::File, io::Read, path::Path};

use clap::{ArgAction, Command};
use toml::{Table, Value};

use super::{
    error::{Failure, named},
    exit::Exit,
};

/// Largest configuration, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// Options that are none of the file's business.
const NOT_IN_FILES: [&str; 5] = ["check", "config", "help", "no-sandbox", "version"];
/// Least similarity of a key that the hint proposes (Jaro-Winkler, as in clap).
const SIMILAR: f64 = 0.7;

/// Words of the command line that the file stands for. Options on the command line (`is_given`) win over the file.
///
/// # Errors
/// When the file cannot be read, is not TOML, has an unknown key, or a value of another type.
pub(super) fn words(path: &Path, command: &Command, is_given: impl Fn(&str) -> bool) -> Result<Vec<OsString>, Failure> {
    let text = read(path).map_err(|error| {
        let hint =
            "`--config` names a TOML file of at most 64 KiB; its keys are the options of `execpath agent --help`";
        Failure::new(Exit::BadInput, format!("cannot read {}: {error}", named(path)), hint)
    })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(1, |span| text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1));
        let what = format!("{}, line {line}: {}", named(path), error.message().trim());
        Failure::new(Exit::BadInput, what, "write `key = value`, with text in quotes: `metrics = \"127.0.0.1:9464\"`")
    })?;
    let mut words = Vec::new();
    for (key, value) in &table {
        let of_key = of_key(command, key, value)
            .map_err(|(what, hint)| Failure::new(Exit::BadInput, format!("{}: {what}", named(path)), hint))?;
        if !is_given(key) {
            words.extend(of_key);
        }
    }
    Ok(words)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Words for one key; else the problem and the remedy.
fn of_key(command: &Command, key: &str, value: &Value) -> Result<Vec<OsString>, (String, String)> {
    let options = || {
        command.get_arguments().filter(|option| {
            !option.is_hide_set() && option.get_long().is_some_and(|long| !NOT_IN_FILES.contains(&long))
        })
    };
    let Some(option) = options().find(|option| option.get_long() == Some(key)) else {
        return Err((format!("unknown key `{key}`"), similar(key, options().filter_map(clap::Arg::get_long))));
    };
    let wrong = |expected: &str| {
        Err((
            format!("`{key}` is {}, not {expected}", value.type_str()),
            format!("`execpath agent --help` describes --{key}"),
        ))
    };
    let word = |text: &str| OsString::from(format!("--{key}={text}"));
    match (option.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(true)) => Ok(vec![format!("--{key}").into()]),
        (ArgAction::SetTrue, Value::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => wrong("true or false"),
        (ArgAction::Count, Value::Integer(count @ 0..=3)) => {
            Ok((0..*count).map(|_| format!("--{key}").into()).collect())
        }
        (ArgAction::Count, _) => wrong("a number from 0 to 3"),
        (_, Value::String(text)) => Ok(vec![word(text)]),
        (_, Value::Integer(number)) => Ok(vec![word(&number.to_string())]),
        (ArgAction::Append, Value::Array(all)) if all.iter().all(Value::is_str) => {
            Ok(all.iter().filter_map(Value::as_str).map(word).collect())
        }
        (ArgAction::Append, _) => wrong("a text or a list of texts"),
        _ => wrong("a text or a number"),
    }
}

fn similar<'a>(key: &str, options: impl Iterator<Item = &'a str>) -> String {
    let options: Vec<&str> = options.collect();
    let closest = options.iter().map(|option| (strsim::jaro_winkler(key, option), option));
    match closest.max_by(|left, right| left.0.total_cmp(&right.0)) {
        Some((score, option)) if score > SIMILAR => format!("a similar key exists: `{option}`"),
        _ => format!("the keys are: {}", options.join(", ")),
    }
}
