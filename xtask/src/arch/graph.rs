//! Imports between source files, and circles among them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use syn::{Item, UseTree};

use super::names::{Named, absolute, names_in};

/// Longest chain of re-exports that is followed.
const MAX_ALIASES: usize = 16;

/// A source file of the tracer.
pub(super) struct Source {
    /// Path from the repository's root, for messages.
    pub(super) file: String,
    /// Module path from the crate's root: `correlate`, `state`.
    pub(super) module: Vec<String>,
    pub(super) text: String,
}

/// The names that a module defines or imports.
#[derive(Default)]
struct Scope {
    defined: BTreeSet<String>,
    /// Imported name → its path.
    aliases: BTreeMap<String, Vec<String>>,
    /// Modules with `use module::*`.
    globs: Vec<Vec<String>>,
}

/// The import graph between files. Tests are left out: they may use everything.
pub(super) struct Graph {
    files: BTreeMap<Vec<String>, String>,
    /// Importing module → imported module → line of the first import.
    imports: BTreeMap<Vec<String>, BTreeMap<Vec<String>, usize>>,
}

impl Graph {
    /// # Errors
    /// If a source is not Rust.
    pub(super) fn new(sources: &[Source]) -> Result<Self> {
        let mut scopes = BTreeMap::new();
        for source in sources {
            let file = syn::parse_file(&source.text).with_context(|| source.file.clone())?;
            scopes.insert(source.module.clone(), Scope::of(&file.items, &source.module));
        }
        let mut graph = Self { files: BTreeMap::new(), imports: BTreeMap::new() };
        for source in sources {
            let mut imports = BTreeMap::new();
            for Named { line, path, in_tests } in names_in(&source.text, &source.module)? {
                let Some(imported) = resolve(&path, &source.module, &scopes, MAX_ALIASES) else { continue };
                if !in_tests && imported != source.module && !imported.is_empty() {
                    imports.entry(imported).or_insert(line);
                }
            }
            graph.files.insert(source.module.clone(), source.file.clone());
            graph.imports.insert(source.module.clone(), imports);
        }
        Ok(graph)
    }

    /// Circles of imports, each as one line per import.
    pub(super) fn circles(&self) -> Vec<String> {
        let reached: BTreeMap<_, _> = self.imports.keys().map(|module| (module, self.reached_from(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, there) in &reached {
            // All modules that this one reaches and that reach it.
            let circle: BTreeSet<_> =
                there.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(*module))).collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
        circles.into_iter().map(|circle| self.describe(&circle)).collect()
    }

    fn reached_from(&self, module: &[String]) -> BTreeSet<&Vec<String>> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&[String]> = vec![module];
        while let Some(module) = open.pop() {
            for imported in self.imports.get(module).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(imported) {
                    open.push(imported);
                }
            }
        }
        reached
    }

    fn describe(&self, circle: &BTreeSet<&&Vec<String>>) -> String {
        let mut lines = vec![format!("a circle of {} files:", circle.len())];
        for module in circle {
            for (imported, line) in self.imports.get(**module).into_iter().flatten() {
                if circle.contains(&&imported) {
                    let file = self.files.get(**module).map_or("", String::as_str);
                    lines.push(format!("  {file}:{line}: {} imports {}", module.join("::"), imported.join("::")));
                }
            }
        }
        lines.join("\n")
    }
}

impl Scope {
    #[expect(clippy::wildcard_enum_match_arm, reason = "other items define no name, and the enum is open")]
    fn of(items: &[Item], module: &[String]) -> Self {
        let mut scope = Self::default();
        for item in items {
            match item {
                Item::Use(import) => scope.import(&import.tree, Vec::new(), module),
                Item::Const(item) => scope.define(&item.ident),
                Item::Enum(item) => scope.define(&item.ident),
                Item::Fn(item) => scope.define(&item.sig.ident),
                Item::Macro(item) => item.ident.iter().for_each(|ident| scope.define(ident)),
                Item::Static(item) => scope.define(&item.ident),
                Item::Struct(item) => scope.define(&item.ident),
                Item::Trait(item) => scope.define(&item.ident),
                Item::Type(item) => scope.define(&item.ident),
                _ => {}
            }
        }
        scope
    }

    fn define(&mut self, ident: &syn::Ident) {
        self.defined.insert(ident.to_string());
    }

    fn import(&mut self, tree: &UseTree, mut prefix: Vec<String>, module: &[String]) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(&path.tree, prefix, module);
            }
            UseTree::Name(name) => {
                // `use a::{self}` imports `a`.
                if name.ident != "self" || prefix.is_empty() {
                    prefix.push(name.ident.to_string());
                }
                if let Some(last) = prefix.last().cloned() {
                    self.aliases.insert(last, absolute(prefix, module));
                }
            }
            UseTree::Rename(rename) => {
                prefix.push(rename.ident.to_string());
                self.aliases.insert(rename.rename.to_string(), absolute(prefix, module));
            }
            UseTree::Glob(_) => self.globs.push(absolute(prefix, module)),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, prefix.clone(), module));
            }
        }
    }
}

/// The module that defines the item of a path; `None` for items of other crates.
fn resolve(
    path: &[String],
    from: &[String],
    scopes: &BTreeMap<Vec<String>, Scope>,
    depth: usize,
) -> Option<Vec<String>> {
    let depth = depth.checked_sub(1)?;
    let first = path.first()?;
    let (mut module, rest) = if first == "crate" {
        (Vec::new(), path.get(1..)?)
    } else {
        // A path without a prefix leads to a child module or to another crate.
        let child: Vec<String> = from.iter().chain([first]).cloned().collect();
        if !scopes.contains_key(&child) {
            return None;
        }
        (child, path.get(1..)?)
    };
    for (at, name) in rest.iter().enumerate() {
        let child: Vec<String> = module.iter().chain([name]).cloned().collect();
        if scopes.contains_key(&child) {
            module = child;
            continue;
        }
        let Some(scope) = scopes.get(&module) else { break };
        if scope.defined.contains(name) {
            break;
        }
        if let Some(alias) = scope.aliases.get(name) {
            let target: Vec<String> = alias.iter().chain(rest.get(at + 1..)?).cloned().collect();
            return resolve(&target, &module, scopes, depth);
        }
        let through = scope.globs.iter().find_map(|glob| {
            let glob = resolve(glob, &module, scopes, depth)?;
            scopes.get(&glob)?.defined.contains(name).then_some(glob)
        });
        if let Some(glob) = through {
            module = glob;
        }
        break;
    }
    Some(module)
}

#[cfg(test)]
mod tests {
    use super::{Graph, Source};

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(module, text)| Source {
                file: format!("{module}.rs"),
                module: module.split("::").map(str::to_owned).collect(),
                text: (*text).to_owned(),
            })
            .collect();
        Graph::new(&sources).expect("Rust").circles()
    }

    #[test]
    fn siblings_importing_each_other_form_a_circle() {
        let found = circles(&[
            ("a", "mod x; mod y; pub use self::x::X;"),
            ("a::x", "use super::y::Y; pub struct X;"),
            ("a::y", "use super::X; pub struct Y;"),
        ]);
        assert_eq!(
            found,
            ["a circle of 2 files:\n  a::x.rs:1: a::x imports a::y\n  a::y.rs:1: a::y imports a::x"],
            "the re-export of the parent leads to the file that defines the item"
        );
    }

    #[test]
    fn child_importing_its_parent_forms_a_circle() {
        let parent = "mod child; pub struct P; fn f() { child::g() }";
        assert_eq!(circles(&[("a", parent), ("a::child", "use super::P; pub fn g() {}")]).len(), 1);
        assert!(circles(&[("a", parent), ("a::child", "pub fn g() {}")]).is_empty());
    }

    #[test]
    fn other_crates_and_tests_form_no_circle() {
        let child = "use std::fmt; mod tests { use super::super::P; }";
        assert!(circles(&[("a", "mod child; use child::X; pub struct P;"), ("a::child", child)]).is_empty());
    }

    #[test]
    fn glob_leads_to_defining_file() {
        let found = circles(&[
            ("a", "mod x; mod y; pub use x::*;"),
            ("a::x", "use super::y::Y; pub struct X;"),
            ("a::y", "use crate::a::X; pub struct Y;"),
        ]);
        assert_eq!(found.len(), 1);
    }
}
