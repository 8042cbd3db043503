//! Writes docs/glossary.md, the words of the explanations: `cargo xtask docs [--check]`.

use std::{error::Error, fs, path::Path};

use execpath::explain::glossary::TERMS;

const INTRO: &str = "# Words

What the words mean that `execpath trace --explain`, `show --explain` and `replay --explain` use. Made by `cargo xtask docs`; a test
looks for words of explanations that are not here.

| word | also | what it means |
|---|---|---|
";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let check = match words.as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("--check or nothing".into()),
    };
    let rows = TERMS.iter().map(|term| format!("| {} | {} | {} |\n", term.name, term.also.join(", "), term.means));
    let page = INTRO.to_owned() + &rows.collect::<String>();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/glossary.md");
    if !check {
        return Ok(fs::write(path, page)?);
    }
    if fs::read_to_string(path)? == page {
        Ok(())
    } else {
        Err("docs/glossary.md is not what the explanations say: cargo xtask docs".into())
    }
}
