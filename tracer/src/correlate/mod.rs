//! Turns observations into findings. Start reading at [`Correlator::ingest`].

use crate::model::{Finding, HostFacts, Observation, Report, Want};

/// What the user asked for that changes what is found; part of a replay's input.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// TCP port of the API server, beside 6443.
    pub apiserver_port: Option<u16>,
    /// TCP port of the kubelet, beside 10250.
    pub kubelet_port: Option<u16>,
    /// Path of the runtime's socket, beside the well-known ones.
    pub runtime_socket: Option<String>,
}

/// Facts in, findings out.
pub struct Correlator {}

impl Correlator {
    /// Knows nothing yet. `host` gives the boot id that session ids are made of.
    #[must_use]
    pub fn new(_host: &HostFacts, _options: Options) -> Self {
        Self {}
    }

    /// Takes in one observation. Never fails: what makes no sense is counted.
    pub fn ingest(&mut self, _seen: &Observation) {}

    /// Questions that came up since the last call.
    pub fn wants(&mut self) -> Vec<Want> {
        Vec::new()
    }

    /// What changed since the last call.
    pub fn drain(&mut self) -> Vec<Finding> {
        Vec::new()
    }

    /// Takes in everything that still waits for its turn in the reordering window.
    pub fn flush(&mut self) {}

    /// Everything that is known.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::default()
    }
}
