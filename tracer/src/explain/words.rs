//! Texts of a hop, from which its explanation is built.

use super::manual::Manual;

/// Texts for a hop.
#[derive(Default)]
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) unknown: Vec<String>,
    pub(super) manual: Vec<Manual>,
}
