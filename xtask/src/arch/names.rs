//! Paths named by a source file, from its tokens: inside macros too, never inside comments and strings.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// A path and its position.
pub(super) struct Named {
    pub(super) line: usize,
    /// Absolute if it began with `crate`, `self` or `super`.
    pub(super) path: Vec<String>,
    /// True inside an inline module called `tests`.
    pub(super) in_tests: bool,
}

impl Named {
    fn new(line: usize, path: Vec<String>, module: &[String]) -> Self {
        Self { line, path: absolute(path, module), in_tests: module.iter().any(|part| part == "tests") }
    }
}

/// Returns every path of two or more words. `module` is the file's module.
pub(super) fn names_in(text: &str, module: &[String]) -> Result<Vec<Named>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut named = Vec::new();
    walk(tokens, module, &mut named);
    Ok(named)
}

fn walk(tokens: TokenStream, module: &[String], named: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    // An inline module: inside, `super` leads one level less up.
    let mut opened: Option<String> = None;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Group(group) => {
                let mut inner = module.to_vec();
                if group.delimiter() == Delimiter::Brace {
                    inner.extend(opened.take());
                }
                walk(group.stream(), &inner, named);
                at += 1;
            }
            // `pub(in crate::a)` restricts visibility; it imports nothing.
            TokenTree::Ident(word) if word == "pub" => {
                let is_scope = |token: &TokenTree| {
                    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis
                        && group.stream().into_iter().next().is_some_and(|first| first.to_string() == "in"))
                };
                at += 1 + usize::from(tokens.get(at + 1).is_some_and(is_scope));
            }
            TokenTree::Ident(word) if word == "mod" => {
                opened = tokens.get(at + 1).map(ToString::to_string);
                at += 2;
            }
            TokenTree::Ident(word) => at = path(&tokens, at, word, module, named),
            TokenTree::Punct(punct) => {
                if punct.as_char() == ';' {
                    opened = None;
                }
                at += 1;
            }
            TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Reads the path that begins with this word. Returns the position after it.
fn path(tokens: &[TokenTree], start: usize, first: &Ident, module: &[String], named: &mut Vec<Named>) -> usize {
    let line = first.span().start().line;
    // `use crate as x` would hide all names behind x.
    if first == "crate" && matches!(tokens.get(start + 1), Some(TokenTree::Ident(word)) if word == "as") {
        named.push(Named::new(line, vec!["crate".to_owned(), "as".to_owned()], module));
        return start + 2;
    }
    let mut path = vec![first.to_string()];
    let mut at = start + 1;
    while is_colons(tokens, at) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(word)) => path.push(word.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => path.push("*".to_owned()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                tree(group.stream(), &path, module, named);
                return at + 3;
            }
            // `::<…>` is a generic argument; the caller reads it next.
            _ => break,
        }
        at += 3;
    }
    if path.len() > 1 {
        named.push(Named::new(line, path, module));
    }
    at
}

/// Reads the branches of `use prefix::{…}`.
fn tree(branches: TokenStream, prefix: &[String], module: &[String], named: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = branches.into_iter().collect();
    for branch in tokens.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',')) {
        let Some(first) = branch.first() else { continue };
        let line = first.span().start().line;
        let mut path = prefix.to_vec();
        let mut nested = false;
        let mut after_as = false;
        for token in branch {
            match token {
                TokenTree::Ident(word) if word == "as" => after_as = true,
                TokenTree::Ident(word) if word == "self" => {}
                TokenTree::Ident(word) if !after_as => path.push(word.to_string()),
                TokenTree::Group(group) => {
                    nested = true;
                    tree(group.stream(), &path, module, named);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        if !nested {
            named.push(Named::new(line, path, module));
        }
    }
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// Resolves `self` and `super`.
pub(super) fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|word| *word == "super").count();
    let own = usize::from(path.first().is_some_and(|word| word == "self"));
    if ups + own == 0 {
        return path;
    }
    let kept = module.len().saturating_sub(ups);
    let mut absolute = vec!["crate".to_owned()];
    absolute.extend(module.iter().take(kept).cloned());
    absolute.extend(path.into_iter().skip(ups + own));
    absolute
}
