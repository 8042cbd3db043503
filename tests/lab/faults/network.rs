//! What networks do.

use super::{Filter, Session, left_over};

#[test]
fn f01_the_kubelets_port_is_not_reached() {
    let _filter = Filter::new("master", &["OUTPUT", "-p", "tcp", "--dport", "10250", "--syn", "-j", "DROP"]);
    let _session = Session::ask("sleep 600");
    left_over("F01");
}
