//! Pictures drawn by `execpath render`, and of its page in a browser.

use std::fs;

use anyhow::Result;

use crate::browser;
use crate::progress::Progress;
use crate::repo::root;
use crate::tools::run_through;

pub(super) fn draw() -> Result<()> {
    let folder = root().join("docs/pictures");
    fs::create_dir_all(&folder)?;
    run_through(browser::node(&Progress::new())?.arg("pictures.mjs").arg(folder))
}
