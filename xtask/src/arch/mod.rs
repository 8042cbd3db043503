//! `cargo xtask arch`: permitted imports between modules, circles between files, lengths. ARCHITECTURE.md has the reasons.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use self::graph::{Graph, Source};
use self::names::{Named, names_in};
use self::rules::{BANNED_IN_PURE, BANNED_WORDS_IN_PURE, HARMLESS, MODULES, Module};
use crate::hint::hinted;
use crate::repo::{files, root};

mod graph;
mod names;
mod rules;
mod sizes;

/// Report forbidden imports, circles of imports, and long files and functions of the tracer.
#[derive(clap::Args)]
pub(crate) struct Arch {}

impl Arch {
    #[expect(clippy::unused_self, reason = "every task is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        let sources = sources()?;
        let mut wrong = Vec::new();
        for source in &sources {
            let forbidden = violations(&source.module, &source.text)?;
            wrong.extend(forbidden.into_iter().map(|it| format!("{}:{it}", source.file)));
            wrong.extend(sizes::too_long(source)?);
        }
        wrong.extend(Graph::new(&sources)?.circles());
        if wrong.is_empty() {
            return Ok(());
        }
        Err(hinted(wrong.join("\n"), "ARCHITECTURE.md has the reasons; the table is in xtask/src/arch/rules.rs"))
    }
}

/// The tracer's sources.
///
/// # Errors
/// If there are none, or one cannot be read.
fn sources() -> Result<Vec<Source>> {
    let folder = Path::new("tracer/src");
    let mut sources = Vec::new();
    for file in files()?.iter().filter(|file| file.starts_with(folder)) {
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(root().join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        let module = module_of(file.strip_prefix(folder)?);
        sources.push(Source { file: file.display().to_string(), module, text });
    }
    anyhow::ensure!(!sources.is_empty(), "no sources in {}", folder.display());
    Ok(sources)
}

/// `correlate/chain.rs` gives correlate, chain; `lib.rs` gives nothing, the root.
fn module_of(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
        path.pop();
    }
    path
}

/// Forbidden names in a file of this module, as `LINE: what`.
fn violations(module: &[String], text: &str) -> Result<Vec<String>> {
    // The root only lists modules.
    if module.is_empty() {
        return Ok(Vec::new());
    }
    let own = module.join("::");
    let Some(rule) = rule_of(&own) else {
        return Ok(vec![format!("1: the module {own} is not in the table of xtask/src/arch/rules.rs")]);
    };
    let mut wrong = Vec::new();
    for Named { line, path, in_tests } in names_in(text, module)? {
        let what = path.join("::");
        if let Some(inside) = what.strip_prefix("crate::").or_else(|| what.strip_prefix("execpath::")) {
            let allowed = rule.may_name.iter().chain([&rule.name]).any(|allowed| is_within(inside, allowed));
            if !allowed {
                wrong.push(format!("{line}: {own} names {inside}"));
            }
        } else if rule.pure && !in_tests && is_impure(&path) {
            // Tests may read files.
            wrong.push(format!("{line}: {own} names {what}, which the pure ring must not name"));
        }
    }
    Ok(wrong)
}

/// The rule of the innermost module that has one.
fn rule_of(module: &str) -> Option<&'static Module> {
    MODULES.iter().filter(|rule| is_within(module, rule.name)).max_by_key(|rule| rule.name.len())
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_impure(path: &[String]) -> bool {
    let what = path.join("::");
    if HARMLESS.iter().any(|harmless| is_within(&what, harmless)) {
        return false;
    }
    BANNED_IN_PURE.iter().any(|banned| is_within(&what, banned))
        || path.iter().any(|word| BANNED_WORDS_IN_PURE.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{module_of, violations};
    use crate::arch::rules::MODULES;
    use crate::repo::root;

    fn of(module: &str, text: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        violations(&module, text).expect("text is Rust")
    }

    #[test]
    fn planted_violations_are_found() {
        assert_eq!(of("correlate::chain", "use crate::decode::decode;"), ["1: correlate::chain names decode::decode"]);
        assert_eq!(of("correlate", "use {std::mem, crate::{model::A, sink}};"), ["1: correlate names sink"]);
        assert_eq!(of("sink::tree", "fn f() {\n super::super::correlate::x() }"), ["2: sink::tree names correlate::x"]);
        assert_eq!(of("model", "vec![crate::cli::X]"), ["1: model names cli::X"]);
        assert_eq!(of("source", "use crate as all;"), ["1: source names as"]);
        for impure in [
            "use std::fs;",
            "use std::{fs::File};",
            "use std::net::TcpStream;",
            "use std::net;",
            "use std::thread::spawn;",
            "use std::time::{Duration, Instant};",
            "use tokio::sync::mpsc;",
            "fn f(x: aya::Ebpf) {}",
            "use std::collections::HashMap;",
            "use std::collections as c; fn f(x: c::HashMap<u8, u8>) {}",
        ] {
            assert_eq!(of("correlate::world", impure).len(), 1, "{impure}");
            assert_eq!(of("engine", impure), <[String; 0]>::default(), "{impure}");
        }
    }

    #[test]
    fn permitted_names_pass() {
        for pure in [
            "use crate::model::{Fact, Span};",
            "use std::net::{IpAddr, SocketAddr};",
            "use super::limits::REMEMBER; use self::x::Y;",
            "use std::time::Duration;",
            "/// as crate::decode and std::fs do\nfn f() -> &'static str { \"crate::decode\" }",
            "mod tests { use super::*; use super::super::order; use std::fs; }",
            "pub(crate) struct X; pub(in crate::correlate) struct Y;",
        ] {
            assert_eq!(of("correlate::chain", pure), <[String; 0]>::default(), "{pure}");
        }
    }

    #[test]
    fn module_without_rule_is_rejected() {
        assert_eq!(of("surprise", "").len(), 1);
    }

    #[test]
    fn file_path_becomes_module_path() {
        let of = |file: &str| module_of(Path::new(file)).join("::");
        assert_eq!(of("correlate/chain.rs"), "correlate::chain");
        assert_eq!(of("correlate/mod.rs"), "correlate");
        assert_eq!(of("lib.rs"), "");
        assert_eq!(of("main.rs"), "main");
    }

    #[test]
    fn every_pure_module_exists() {
        for rule in MODULES.iter().filter(|rule| rule.pure) {
            let file = root().join("tracer/src").join(rule.name.replace("::", "/"));
            assert!(file.is_dir() || file.with_extension("rs").is_file(), "no module {}", rule.name);
        }
    }
}
