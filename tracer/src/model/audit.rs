//! Entries of the API server's audit log.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{BootTime, Confidence, RawText};

/// One line of the audit log: one stage of one request that opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Audit id, equal in every stage of a request. Clients may choose it, so it does not identify a request by itself.
    pub id: String,
    /// Time at which the API server received the request, by the API server's clock.
    pub received: BootTime,
    /// Time of this stage, by the API server's clock.
    pub written: BootTime,
    /// Set for the last stage of the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// HTTP status of the API server's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Set if the line was in the log before the tracer started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub older: bool,
    /// Source addresses: first the ones that proxies claim, last the one that the API server saw itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpAddr>,
    /// Authenticated user.
    pub user: AuditUser,
    /// Requested pod, command and streams.
    pub request: AuditRequest,
}

/// User as authenticated by the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditUser {
    /// Name of the authenticated user.
    pub name: String,
    /// Groups of that user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// User name of the impersonated user (`kubectl --as`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonated: Option<String>,
    /// `User-Agent` of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// Request on a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRequest {
    /// Requested subresource of the pod.
    pub subresource: Subresource,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container, if the request names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Command of an `exec`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<RawText>,
    /// Set if `command` is truncated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub command_truncated: bool,
    /// Set if the request asks for stdin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// Set if the request asks for a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
}

/// Subresources of a pod that open a session.
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
    /// Subresource of this Kubernetes name; `None` for every other subresource.
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

/// User of a session according to the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeUser {
    /// User as authenticated by the API server.
    pub user: AuditUser,
    /// Audit id of the request; `None` if several requests of that user match the session.
    pub audit_id: Option<String>,
    /// Certainty of the match between request and session.
    pub confidence: Confidence,
}
