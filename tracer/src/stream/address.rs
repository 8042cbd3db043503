//! Address of a cluster's stream, and the names that follow from it.

use std::{fmt, path::Path};

/// Schemes of an address: without and with TLS.
const SCHEME: &str = "nats://";
const TLS_SCHEME: &str = "tls://";

/// Port of NATS.
const PORT: u16 = 4_222;

/// Longest name of a cluster or host. A host name has at most 64 bytes on Linux (uname(2)).
const MAX_NAME: usize = 64;

/// First tokens of each subject. The number is the version of the layout of subjects and messages.
const PREFIX: &str = "execpath.v1";

/// `nats://[TOKEN@]HOST[:PORT]/CLUSTER`, or `tls://` for TLS. Its text in messages leaves out the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or address of the server's host.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// Name of the cluster.
    pub cluster: String,
    /// The connection uses TLS.
    pub tls: bool,
    /// Token, from the address.
    pub(super) token: Option<String>,
}

impl Address {
    /// True if the text is meant as the address of a stream, not as a file.
    #[must_use]
    pub fn is_meant(path: &Path) -> bool {
        path.to_str().is_some_and(|text| text.starts_with(SCHEME) || text.starts_with(TLS_SCHEME))
    }

    /// Parses an address.
    ///
    /// # Errors
    /// The reason, without the text: it may have a token.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tls = text.starts_with(TLS_SCHEME);
        let rest = text.strip_prefix(if tls { TLS_SCHEME } else { SCHEME });
        let rest = rest.ok_or("the address must begin with nats:// or tls://")?;
        let (authority, cluster) = rest.split_once('/').ok_or("the cluster is missing: nats://HOST/CLUSTER")?;
        if !is_name(cluster) {
            return Err("the cluster must be 1 to 64 letters, digits, `-` or `_`".to_owned());
        }
        let (token, server) = match authority.rsplit_once('@') {
            Some((token, server)) => (Some(token.to_owned()), server),
            None => (None, authority),
        };
        if token.as_deref().is_some_and(|token| token.is_empty() || token.contains(':')) {
            return Err("the part before `@` must be a token; users have a file: `--nats-creds`".to_owned());
        }
        // An IPv6 address has brackets, also without a port.
        let after_address = server.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match server.get(after_address..).and_then(|rest| rest.find(':')) {
            Some(at) => {
                let (host, port) = server.split_at(after_address + at);
                let port = port.trim_start_matches(':').parse().map_err(|_error| "the port must be 1 to 65535")?;
                (host, port)
            }
            None => (server, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || port == 0 {
            return Err("the host is missing: nats://HOST[:PORT]/CLUSTER".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, cluster: cluster.to_owned(), tls, token })
    }

    /// True if the address has a token.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Name of the stream of the cluster.
    #[must_use]
    pub fn stream(&self) -> String {
        format!("execpath-v1-{}", self.cluster)
    }

    /// Subjects of all hosts.
    #[must_use]
    pub fn subjects(&self) -> String {
        format!("{PREFIX}.{}.*", self.cluster)
    }

    /// Subject of a host, by its [`token_of`].
    pub(super) fn subject(&self, host: &str) -> String {
        format!("{PREFIX}.{}.{host}", self.cluster)
    }

    /// Host of a subject; `None` for a subject of another cluster.
    pub(super) fn host_of<'a>(&self, subject: &'a str) -> Option<&'a str> {
        let host = subject.strip_prefix(PREFIX)?.strip_prefix('.')?.strip_prefix(&*self.cluster)?.strip_prefix('.')?;
        (!host.contains('.')).then_some(host)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, cluster, tls, token: _ } = self;
        let scheme = if *tls { TLS_SCHEME } else { SCHEME };
        if host.contains(':') {
            write!(f, "{scheme}[{host}]:{port}/{cluster}")
        } else {
            write!(f, "{scheme}{host}:{port}/{cluster}")
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_name(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_fit)
}

/// Token of a host in subjects: its name, with `_` for each dot. Host names have no `_` (RFC 1123), so two hosts never
/// share a token. `None` for a name that is no host name.
#[must_use]
pub fn token_of(hostname: &str) -> Option<String> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    ((1..=MAX_NAME).contains(&hostname.len()) && hostname.bytes().all(is_fit)).then(|| hostname.replace('.', "_"))
}

/// The text with the token of each address in it replaced by `***`.
#[must_use]
pub fn without_token(text: &str) -> String {
    let Some((scheme, (before, rest))) =
        [SCHEME, TLS_SCHEME].into_iter().find_map(|scheme| Some((scheme, text.split_once(scheme)?)))
    else {
        return text.to_owned();
    };
    let authority = rest.find('/').unwrap_or(rest.len());
    match rest.get(..authority).and_then(|authority| authority.rfind('@')) {
        Some(at) => format!("{before}{scheme}***{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_host_port_cluster_and_token() {
        let parts = |text: &str| {
            let Address { host, port, cluster, tls: _, token } = Address::parse(text).unwrap();
            (host, port, cluster, token)
        };
        let of = |host: &str, port, cluster: &str, token: Option<&str>| {
            (host.to_owned(), port, cluster.to_owned(), token.map(str::to_owned))
        };
        assert_eq!(parts("nats://nats.example/prod"), of("nats.example", 4222, "prod", None));
        assert_eq!(parts("nats://s3cret@10.0.0.1:99/a_b-c"), of("10.0.0.1", 99, "a_b-c", Some("s3cret")));
        assert_eq!(parts("nats://[fd00::1]/c"), of("fd00::1", 4222, "c", None));
        assert_eq!(parts("nats://[fd00::1]:7/c"), of("fd00::1", 7, "c", None));
        for wrong in
            ["nats://h", "nats://h/", "nats://h/a.b", "nats://h/a/b", "nats://h/*", "nats:///c", "nats://h:0/c"]
        {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["nats://h:x/c", "nats://@h/c", "nats://user:s3cret@h/c", "tls://s3cret@h/", "/a/b"] {
            assert!(!Address::parse(wrong).unwrap_err().contains("s3cret"), "{wrong}");
        }
    }

    #[test]
    fn token_is_never_shown() {
        let address = Address::parse("nats://s3cret@[fd00::1]/c").unwrap();
        assert_eq!((format!("{address}"), format!("{address:?}")), {
            let shown = "nats://[fd00::1]:4222/c".to_owned();
            (shown.clone(), shown)
        });
        assert_eq!(without_token("--from=nats://s3cret@h/c"), "--from=nats://***@h/c");
        assert_eq!(without_token("nats://s3@cret@h"), "nats://***@h");
        assert_eq!(without_token("--from=tls://s3cret@h/c"), "--from=tls://***@h/c");
        assert_eq!(Address::parse("tls://s3cret@h/c").unwrap().to_string(), "tls://h:4222/c");
        assert_eq!(without_token("nats://h/c@d"), "nats://h/c@d");
        assert_eq!(without_token("a@b"), "a@b");
    }

    #[test]
    fn subject_names_one_cluster_and_one_host() {
        let address = Address::parse("nats://h/c").unwrap();
        let token = token_of("node-1.example").unwrap();
        let subject = address.subject(&token);
        assert_eq!(subject, "execpath.v1.c.node-1_example");
        assert_eq!(address.host_of(&subject), Some(&*token));
        for other in ["execpath.v1.cc.x", "execpath.v1.c.x.y", "execpath.v2.c.x", "execpath.v1.c"] {
            assert_eq!(address.host_of(other), None, "{other}");
        }
        for wrong in ["", "a_b", "a b", "*", ">", "ä"] {
            assert_eq!(token_of(wrong), None, "{wrong}");
        }
    }
}
