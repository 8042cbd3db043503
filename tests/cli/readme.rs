//! The README's examples equal the program's output.

use std::{fs, path::Path};

use execpath_tests::binary::run;

/// Every example that begins with a command of this program: its arguments, and the output shown.
fn blocks(text: &str) -> Vec<(Vec<String>, String)> {
    let consoles = text.split("```console\n").skip(1).filter_map(|rest| rest.split_once("```\n"));
    consoles
        .filter_map(|(block, _)| {
            let (command, output) = block.split_once('\n')?;
            let arguments = command.strip_prefix("$ execpath ")?;
            Some((arguments.split_whitespace().map(str::to_owned).collect(), output.to_owned()))
        })
        .collect()
}

#[test]
fn readme_examples_equal_program_output() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("README.md")).expect("the README is there");
    let blocks = blocks(&text);
    assert!(!blocks.is_empty(), "the README shows nothing");
    for (mut arguments, shown) in blocks {
        for argument in arguments.iter_mut().filter(|argument| argument.starts_with("tests/")) {
            *argument = root.join(argument.as_str()).to_string_lossy().into_owned();
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(run(&arguments).stdout, shown, "{arguments:?}");
    }
}
