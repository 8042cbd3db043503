//! Credentials for the server, from files. Nothing here is ever printed.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read},
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{ConnectOptions, rustls::ClientConfig};

use super::{address::Address, tls};

/// Longest file of credentials, in bytes. A JWT of NATS has one or two thousand.
const MAX_FILE: u64 = 64 << 10;

/// Longest time to connect.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Files with credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// File with a JWT and an NKey seed, as `nsc` writes it.
    pub creds: Option<PathBuf>,
    /// File with an NKey seed.
    pub nkey: Option<PathBuf>,
    /// File with a token.
    pub token: Option<PathBuf>,
    /// File with the certificates of the authorities that the server's certificate may come from, in PEM. Default: those of
    /// the system.
    pub ca: Option<PathBuf>,
}

/// Credentials that were read, and the settings of TLS.
#[derive(Clone)]
pub struct Credentials {
    kind: Kind,
    /// `None` for a connection without TLS.
    tls: Option<ClientConfig>,
}

#[derive(Clone)]
enum Kind {
    None,
    Creds(String),
    Nkey(String),
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Reads the file that is given, or takes the token of the address.
    ///
    /// # Errors
    /// The file, and why it cannot be read.
    pub fn read(files: &Files, address: &Address) -> Result<Self, (PathBuf, io::Error)> {
        let text = |path: &Path| read(path).map_err(|error| (path.to_owned(), error));
        let kind = match files {
            Files { creds: Some(path), .. } => {
                let creds = text(path)?;
                // The error may quote the file.
                ConnectOptions::with_credentials(&creds)
                    .map_err(|_error| (path.clone(), invalid("not a creds file")))?;
                Kind::Creds(creds)
            }
            Files { nkey: Some(path), .. } => {
                let seed = text(path)?;
                let is_seed = seed.starts_with("SU") && seed.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if !is_seed {
                    return Err((path.clone(), invalid("not the NKey seed of a user: it begins with SU")));
                }
                Kind::Nkey(seed)
            }
            Files { token: Some(path), .. } => Kind::Token(text(path)?),
            Files { .. } => address.token.clone().map_or(Kind::None, Kind::Token),
        };
        let tls = address.tls.then(|| tls::config(&address.host, files.ca.as_deref()));
        let tls = tls
            .transpose()
            .map_err(|error| (files.ca.clone().unwrap_or_else(|| address.host.clone().into()), error))?;
        Ok(Self { kind, tls })
    }

    /// Options of a connection with these credentials. The prefix of the inbox belongs to this client alone: a client
    /// that may read all inboxes could read the messages that the server sends to others.
    pub(super) fn options(&self, name: &str, inbox: &str) -> ConnectOptions {
        let options = ConnectOptions::new()
            .name(name)
            .custom_inbox_prefix(inbox)
            .connection_timeout(CONNECT_WITHIN)
            // A confined process resolves no names.
            .ignore_discovered_servers();
        let options = match &self.tls {
            Some(config) => options.require_tls(true).tls_client_config(config.clone()),
            None => options,
        };
        match &self.kind {
            Kind::None => options,
            // It was valid when it was read.
            Kind::Creds(creds) => options.credentials(creds).unwrap_or_default(),
            Kind::Nkey(seed) => options.nkey(seed.clone()),
            Kind::Token(token) => options.token(token.clone()),
        }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Text of a file without surrounding white space.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(invalid("longer than 64 KiB"));
    }
    let text = text.trim();
    if text.is_empty() { Err(invalid("the file is empty")) } else { Ok(text.to_owned()) }
}

/// Servers that were looked up. A confined process resolves no names: an agent that reads its configuration again needs the
/// address that it found at the start.
static KNOWN: Mutex<BTreeMap<(String, u16), Vec<SocketAddr>>> = Mutex::new(BTreeMap::new());

/// Most addresses of a server.
const MAX_ADDRESSES: usize = 8;

/// Looks up the server, once: `nats://IP:PORT` for each of its addresses.
///
/// # Errors
/// The host is unknown.
pub(super) fn resolve(address: &Address) -> io::Result<Vec<String>> {
    let name = (address.host.clone(), address.port);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = match known.get(&name) {
        Some(found) => found.clone(),
        None => (&*address.host, address.port).to_socket_addrs()?.take(MAX_ADDRESSES).collect(),
    };
    if found.is_empty() {
        return Err(io::Error::other("the host has no address"));
    }
    let servers = found.iter().map(|found| format!("nats://{found}")).collect();
    known.insert(name, found);
    Ok(servers)
}
