//! Lengths of files and functions, without tests.

use anyhow::Result;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemFn, ItemMod};

use super::graph::Source;

/// A file that is longer has more than one subject.
const FILE_LINES: usize = 600;
/// A function that is longer has more than one step.
const FUNCTION_LINES: usize = 80;
/// Files with a bound of their own: a driver only calls others.
const DRIVERS: &[(&str, usize)] = &[("correlate", 300)];

/// Reports files and functions that are too long, one line each.
///
/// # Errors
/// If the source is not Rust.
pub(super) fn too_long(source: &Source) -> Result<Vec<String>> {
    let file = syn::parse_file(&source.text)?;
    let tests: usize = file.items.iter().filter(|item| is_tests(item)).map(lines).sum();
    let length = source.text.lines().count().saturating_sub(tests);
    let bound = DRIVERS
        .iter()
        .find(|(module, _lines)| source.module.join("::") == *module)
        .map_or(FILE_LINES, |(_module, lines)| *lines);
    let mut functions = Functions { file: &source.file, found: Vec::new() };
    functions.visit_file(&file);
    if length > bound {
        functions.found.push(format!("{}: {length} lines without tests, at most {bound}", source.file));
    }
    Ok(functions.found)
}

struct Functions<'a> {
    file: &'a str,
    found: Vec<String>,
}

impl Functions<'_> {
    fn check(&mut self, name: &syn::Ident, node: &impl Spanned) {
        let (from, length) = (node.span().start().line, lines(node));
        if length > FUNCTION_LINES {
            self.found.push(format!("{}:{from}: {name} has {length} lines, at most {FUNCTION_LINES}", self.file));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        // The body and the signature; attributes and docs do not count.
        self.check(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.check(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

fn is_tests(item: &Item) -> bool {
    matches!(item, Item::Mod(item) if is_test(&item.attrs))
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn lines(node: &impl Spanned) -> usize {
    let span = node.span();
    span.end().line.saturating_sub(span.start().line) + 1
}

#[cfg(test)]
mod tests {
    use super::{Source, too_long};

    fn of(module: &str, text: String) -> Vec<String> {
        let module = module.split("::").map(str::to_owned).collect();
        too_long(&Source { file: "a.rs".to_owned(), module, text }).expect("Rust")
    }

    #[test]
    fn long_files_and_functions_are_reported() {
        let body = "    x();\n".repeat(90);
        assert_eq!(of("a", format!("fn f() {{\n{body}}}\n")), ["a.rs:1: f has 92 lines, at most 80"]);
        assert_eq!(of("a", "// c\n".repeat(700)), ["a.rs: 700 lines without tests, at most 600"]);
        assert_eq!(of("correlate", "// c\n".repeat(301)), ["a.rs: 301 lines without tests, at most 300"]);
    }

    #[test]
    fn tests_do_not_count() {
        let tests = format!("#[cfg(test)]\nmod tests {{\nfn f() {{\n{}}}\n}}\n", "    x();\n".repeat(700));
        assert!(of("a", tests).is_empty());
    }
}
