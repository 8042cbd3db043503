//! `cargo xtask ebpf`: builds the BPF object.

/// Build the BPF object from tracer-ebpf.
#[derive(clap::Args)]
pub(crate) struct Ebpf {}

impl Ebpf {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        anyhow::bail!("not here yet")
    }
}
