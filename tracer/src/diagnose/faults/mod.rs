//! Every known fault: a file each, and a row in [`FAULTS`].

mod dials;
mod f01_node_unreachable;
mod f02_kubelet_tls;
mod f03_tunnel;
mod f04_admission;
mod f05_upgrade_refused;
mod f06_streams_missing;
mod f07_protocol_mismatch;
mod f08_runtime_silent;
mod f09_shim_stuck;
mod f10_frozen;
mod f11_memory;
mod f12_pids;
mod f13_systemd;
mod f14_runc_errors;
mod f15_descriptors;
mod f16_slow_reader;
mod f17_idle_cut;
mod f18_black_hole;
mod f19_mtu;
mod f20_stdin_end;
mod f21_runtime_gone;
mod f22_uninterruptible;
mod f23_waiting;
mod f24_guest;
mod f25_output_held;
mod f26_orphan_process;
mod f27_container_gone;
mod f28_orphan_leg;
mod f29_runtime_leak;
mod f30_restart;
mod f31_output_cut;
mod f32_probes;
mod f33_not_served;
mod f34_kubelet_waits;
mod f36_refused_early;
mod f37_refused_by_kubelet;
mod f38_stream_port;
mod f39_nobody_listens;
mod f40_head_of_line;
mod f41_not_executed;
mod f42_killed;
mod f43_cpu;
mod f44_false_success;
mod f45_not_connected;
mod f46_not_let_in;
mod f47_client_stays;
mod prelude;
mod signs;

use super::fault::Fault;

/// Every fault in decision order: of two that match, the earlier explains the later.
pub const FAULTS: &[Fault] = &[
    f45_not_connected::FAULT,
    f01_node_unreachable::FAULT,
    f02_kubelet_tls::FAULT,
    f33_not_served::FAULT,
    f03_tunnel::FAULT,
    f04_admission::FAULT,
    f36_refused_early::FAULT,
    f37_refused_by_kubelet::FAULT,
    f38_stream_port::FAULT,
    f39_nobody_listens::FAULT,
    f06_streams_missing::FAULT,
    f07_protocol_mismatch::FAULT,
    f08_runtime_silent::FAULT,
    f34_kubelet_waits::FAULT,
    f09_shim_stuck::FAULT,
    f10_frozen::FAULT,
    f11_memory::FAULT,
    f12_pids::FAULT,
    f13_systemd::FAULT,
    f14_runc_errors::FAULT,
    f15_descriptors::FAULT,
    f46_not_let_in::FAULT,
    f41_not_executed::FAULT,
    f17_idle_cut::FAULT,
    f19_mtu::FAULT,
    f18_black_hole::FAULT,
    f24_guest::FAULT,
    f40_head_of_line::FAULT,
    f16_slow_reader::FAULT,
    f21_runtime_gone::FAULT,
    f20_stdin_end::FAULT,
    f22_uninterruptible::FAULT,
    f43_cpu::FAULT,
    f42_killed::FAULT,
    f30_restart::FAULT,
    f31_output_cut::FAULT,
    f25_output_held::FAULT,
    f27_container_gone::FAULT,
    f26_orphan_process::FAULT,
    f44_false_success::FAULT,
    f47_client_stays::FAULT,
    f28_orphan_leg::FAULT,
    f29_runtime_leak::FAULT,
    f32_probes::FAULT,
    f05_upgrade_refused::FAULT,
    f23_waiting::FAULT,
];

/// The code for a session that waits for input, which is no fault.
pub const WAITING: &str = f23_waiting::FAULT.code;
