//! Clients of the JSON contract.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::{exit::Exit, time::moment};
use crate::{
    model::{self, BootTime, RawText, Role},
    sink::Header,
};

/// The weaker of two confidences: that the first hop is the client, which is the confidence of its leg; and that the
/// user of the audit log started the session.
pub(super) fn client_confidence(session: &model::Session) -> Option<model::Confidence> {
    let is_client = session.hops.first().is_some_and(|hop| hop.role == Role::Client);
    let leg = session.links.iter().find(|link| is_client && link.from == 0 && link.to != 0);
    let user = session.client.user.as_ref().map(|user| user.confidence);
    leg.map(|leg| leg.confidence).into_iter().chain(user).min()
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Client<'a> {
    #[schemars(with = "Option<String>")]
    address: Option<SocketAddr>,
    uid: Option<u32>,
    uid_name: Option<&'a str>,
    login_uid: Option<u32>,
    login_name: Option<&'a str>,
    tty: Option<&'a str>,
    parents: Option<Vec<Parent<'a>>>,
    user: Option<&'a str>,
    groups: Option<&'a [String]>,
    impersonated_user: Option<&'a str>,
    user_agent: Option<&'a str>,
    audit_id: Option<&'a str>,
    confidence: Option<&'static str>,
    /// Exit of the client's process; absent while it runs, or if the client is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    /// True if the exit code of `kubectl exec` is that of the command; absent if either is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_agrees: Option<bool>,
}

impl<'a> Client<'a> {
    pub(super) fn new(session: &'a model::Session, header: &'a Header) -> Self {
        let model::Client { address, uid, uid_name, login_uid, login_name, tty, parents, user, pending: _ } =
            &session.client;
        let known = user.as_ref().map(|known| &known.user);
        Self {
            address: *address,
            uid: *uid,
            uid_name: uid_name.as_deref(),
            login_uid: *login_uid,
            login_name: login_name.as_deref(),
            tty: tty.as_deref(),
            parents: parents.as_ref().map(|all| all.iter().map(|above| Parent::new(above, header)).collect()),
            user: known.map(|user| user.name.as_str()),
            groups: known.map(|user| user.groups.as_slice()),
            impersonated_user: known.and_then(|user| user.impersonated.as_deref()),
            user_agent: known.and_then(|user| user.agent.as_deref()),
            audit_id: user.as_ref().and_then(|user| user.audit_id.as_deref()),
            confidence: client_confidence(session).map(model::Confidence::token),
            exit: session.client_exit().map(|status| Exit::new(status.into())),
            exit_agrees: session.exit_agrees(),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Parent<'a> {
    pid: u32,
    started_at: String,
    comm: &'a RawText,
    uid: Option<u32>,
}

impl<'a> Parent<'a> {
    fn new(above: &'a model::Ancestor, header: &Header) -> Self {
        let started_at = moment(header.anchor, BootTime(above.task.start_ns()));
        Self { pid: above.task.tgid, started_at, comm: &above.comm, uid: above.uid }
    }
}
