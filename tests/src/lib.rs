//! Parts shared by the test targets.

pub mod binary;
pub mod fixture;
pub mod merged;
pub mod nats;
pub mod pane;
pub mod publishing;
pub mod receiver;
pub mod repeat;
pub mod samples;
pub mod scenario;
pub mod status;
pub mod wait;
pub mod xtask;
