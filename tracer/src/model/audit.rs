//! What the API server's audit log tells.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{BootTime, Confidence, RawText};

/// A line of the audit log: one stage of one request that opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// The same in every stage of a request. A client may choose it, so it names no request by itself.
    pub id: String,
    /// When the API server had read the request, by its own clock.
    pub received: BootTime,
    /// When this stage was, by its own clock.
    pub written: BootTime,
    /// Whether this was the last stage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// What the API server answered, in HTTP's numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// It was in the log already when the tracer began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub older: bool,
    /// Where it came from: what proxies claim, and last the address that the API server saw itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpAddr>,
    /// Who.
    pub user: AuditUser,
    /// What.
    pub request: AuditRequest,
}

/// Whom the API server took the client for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditUser {
    /// Who showed a credential.
    pub name: String,
    /// Groups of that user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whom that user acted as (`kubectl --as`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonated: Option<String>,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRequest {
    /// Of a pod.
    pub subresource: Subresource,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The command, of `exec`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<RawText>,
    /// Whether the command was cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub command_truncated: bool,
    /// Whether stdin was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// Whether a terminal was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
}

/// What of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subresource {
    /// `pods/exec`
    Exec,
    /// `pods/attach`
    Attach,
    /// `pods/portforward`
    PortForward,
}

impl Subresource {
    /// By the name that Kubernetes has for it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "exec" => Some(Self::Exec),
            "attach" => Some(Self::Attach),
            "portforward" => Some(Self::PortForward),
            _ => None,
        }
    }
}

/// The user behind a session, as the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeUser {
    /// Whom the API server took the client for.
    pub user: AuditUser,
    /// The request; `None` where it is one of several of that user.
    pub audit_id: Option<String>,
    /// How sure it is.
    pub confidence: Confidence,
}
