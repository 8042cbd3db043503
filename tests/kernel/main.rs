//! Probes, in the kernel that runs here: `cargo xtask test --only kernel`.
