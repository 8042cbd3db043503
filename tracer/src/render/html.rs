//! One self-contained HTML page: it opens from disk and makes no request.
//!
//! Its Content-Security-Policy names script and styles by their hashes and allows nothing else. The data are in an
//! element that browsers never run; the script inserts them as plain text.

use std::io::{self, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{Timeline, page_data::PageData};
use crate::sink::json;

/// The page with its placeholders: `{{policy}}`, `{{style}}`, `{{data}}`, `{{script}}`.
const PAGE: &str = include_str!("page/page.html");
/// Styles in the order of their cascade.
const STYLES: &[&str] = &[include_str!("page/picture.css"), include_str!("page/page.css")];
/// Scripts in the order of their dependencies.
const SCRIPTS: &[&str] = &[
    include_str!("page/elements.js"),
    include_str!("page/page_data.js"),
    include_str!("page/list.js"),
    include_str!("page/picture.js"),
    include_str!("page/start.js"),
    include_str!("page/steps.js"),
    include_str!("page/details.js"),
    include_str!("page/timeline.js"),
    include_str!("page/main.js"),
];

/// Writes the page.
///
/// # Errors
/// When the writer fails.
pub(super) fn write(timeline: &Timeline, target: &mut dyn Write) -> io::Result<()> {
    let style = STYLES.concat();
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.concat());
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        hash(&script),
        hash(&style)
    );
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        target.write_all(before.as_bytes())?;
        match name {
            "policy" => target.write_all(policy.as_bytes())?,
            "style" => target.write_all(style.as_bytes())?,
            "script" => target.write_all(script.as_bytes())?,
            _ => json::embedded(&PageData::new(timeline), target)?,
        }
        rest = after;
    }
    target.write_all(rest.as_bytes())
}

/// Hash source of an inline element, in the syntax of a Content-Security-Policy.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_names_each_inline_source_once() {
        let mut page = Vec::new();
        write(&Timeline::default(), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(!page.contains("{{"));
        let between = |start: &str, end: &str| {
            let (_, rest) = page.split_once(start).unwrap();
            rest.split_once(end).unwrap().0
        };
        for inline in [between("<style>", "</style>"), between("<script>", "</script>")] {
            assert_eq!(page.matches(&hash(inline)).count(), 1);
        }
        let data = between("type=\"application/json\">", "</script>");
        assert!(serde_json::from_str::<serde_json::Value>(data).unwrap()["sessions"].as_array().unwrap().is_empty());
    }

    #[test]
    fn scripts_parse_no_markup_and_make_no_request() {
        for script in SCRIPTS {
            for banned in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "import("]
            {
                assert!(!script.contains(banned), "{banned}");
            }
        }
    }
}
