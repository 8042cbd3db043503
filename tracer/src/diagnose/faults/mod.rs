//! Every fault that is known by name: a file each, and a row in [`FAULTS`].

mod f16_slow_reader;
mod f23_waiting;

use super::Fault;

/// Every fault, in the order of the decision: of two that fit, the earlier explains the later.
pub const FAULTS: &[Fault] = &[f16_slow_reader::FAULT, f23_waiting::FAULT];

/// The code of what is no fault: waiting for input.
pub const WAITING: &str = f23_waiting::FAULT.code;
