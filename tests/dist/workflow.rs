//! The workflow that publishes a release. It runs on the repository's host only; here it is linted.

use crate::{python_tool, repository, succeed};

#[test]
fn release_workflow_passes_lint() {
    let workflow = repository(".github/workflows/release.yml");
    succeed(std::process::Command::new(python_tool("actionlint")).arg(workflow));
}
