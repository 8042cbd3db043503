//! End to end, on a real cluster: `cargo xtask test --only lab`.
