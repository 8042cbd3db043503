//! Parses one line of the audit log (staging/src/k8s.io/apiserver/pkg/apis/audit/v1/types.go). The API server writes the line, but
//! clients choose the texts in it: each is bounded, and none is trusted.

use std::{
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use crate::model::{AuditEvent, AuditRequest, AuditUser, BootTime, ClockAnchor, RawText, Subresource};

/// Words and bytes of a command: as many as of a process's arguments, with which the correlator compares them.
const MAX_WORDS: usize = 64;
const MAX_WORD_BYTES: usize = 4096;
/// Longest name of a user. A cut name could be another user's, so a line with a longer name is refused.
const MAX_NAME: usize = 1024;
const MAX_GROUPS: usize = 64;
/// Longest text that identifies nothing. Longer ones are cut.
const MAX_TEXT: usize = 256;
const MAX_SOURCES: usize = 32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    kind: String,
    api_version: String,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default, rename = "sourceIPs")]
    source_ips: Vec<String>,
    user_agent: Option<String>,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    request_received_timestamp: String,
    stage_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    code: Option<i64>,
}

/// The event in a line; `None` for a request that starts no session.
///
/// # Errors
/// When the line belongs to no audit log, or cannot be understood.
pub fn event(line: &[u8], anchor: ClockAnchor) -> Result<Option<AuditEvent>, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if line.kind != "Event" || !line.api_version.starts_with("audit.k8s.io/") {
        return Err("it is no event of audit.k8s.io".to_owned());
    }
    let Some(object) = line.object_ref.filter(|object| object.resource == "pods") else { return Ok(None) };
    let Some(subresource) = Subresource::named(&object.subresource) else { return Ok(None) };
    let time = |text: &str| moment(text, anchor).ok_or_else(|| format!("`{text}` is no time"));
    let identifying = |name: String| if name.len() <= MAX_NAME { Ok(name) } else { Err("a name is too long") };
    let (received, written) = (time(&line.request_received_timestamp)?, time(&line.stage_timestamp)?);
    let mut request = AuditRequest {
        subresource,
        namespace: identifying(object.namespace)?,
        pod: identifying(object.name)?,
        container: None,
        command: Vec::new(),
        command_truncated: false,
        stdin: false,
        tty: false,
    };
    parameters(&line.request_uri, &mut request);
    Ok(Some(AuditEvent {
        id: cut(line.audit_id, MAX_TEXT),
        received,
        written,
        over: line.stage == "ResponseComplete" || line.stage == "Panic",
        code: line.response_status.and_then(|status| u16::try_from(status.code?).ok()).filter(|code| *code > 0),
        older: false,
        sources: addresses(&line.source_ips),
        user: AuditUser {
            name: identifying(line.user.username)?,
            groups: line.user.groups.into_iter().take(MAX_GROUPS).map(|group| cut(group, MAX_TEXT)).collect(),
            impersonated: line.impersonated_user.map(|user| identifying(user.username)).transpose()?,
            agent: line.user_agent.map(|agent| cut(agent, MAX_TEXT)).filter(|agent| !agent.is_empty()),
        },
        request,
    }))
}

/// Source addresses. The API server saw the last one itself, and clients claim the others: of a long list the first are left out. Empty
/// if the last one is no address.
fn addresses(texts: &[String]) -> Vec<IpAddr> {
    let last = texts.get(texts.len().saturating_sub(MAX_SOURCES)..).unwrap_or_default();
    match last.split_last().map(|(seen, claimed)| (seen.parse::<IpAddr>(), claimed)) {
        Some((Ok(seen), claimed)) => claimed
            .iter()
            .filter_map(|text| text.parse().ok())
            .chain([seen])
            .map(|ip: IpAddr| ip.to_canonical())
            .collect(),
        Some((Err(_), _)) | None => Vec::new(),
    }
}

/// Boot time of an RFC 3339 timestamp.
fn moment(text: &str, anchor: ClockAnchor) -> Option<BootTime> {
    let time: SystemTime = humantime::parse_rfc3339(text).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(anchor.boot_time(u64::try_from(since.as_nanos()).ok()?))
}

/// Reads the parameters of the request (staging/src/k8s.io/apimachinery, pkg/runtime/conversion.go: a flag is set unless it is `0` or
/// `false`).
fn parameters(uri: &str, request: &mut AuditRequest) {
    let Some((_, query)) = uri.split_once('?') else { return };
    let mut left = MAX_WORD_BYTES;
    let is_set = |value: &[u8]| value != b"0" && !value.eq_ignore_ascii_case(b"false");
    for (key, value) in query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        match decoded(key).as_slice() {
            b"command" => {
                let mut word = decoded(value);
                if request.command_truncated || request.command.len() >= MAX_WORDS || left == 0 {
                    request.command_truncated = true;
                    continue;
                }
                if word.len() > left {
                    word.truncate(left);
                    request.command_truncated = true;
                }
                left -= word.len();
                request.command.push(RawText::from(word));
            }
            b"container" => request.container = String::from_utf8(decoded(value)).ok().filter(|name| !name.is_empty()),
            b"stdin" => request.stdin = is_set(&decoded(value)),
            b"tty" => request.tty = is_set(&decoded(value)),
            _ => {}
        }
    }
    request.container = request.container.take().map(|name| cut(name, MAX_TEXT));
}

/// Decodes `%41` and `+` (application/x-www-form-urlencoded). Other text stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let hex = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        let escaped = hex(0).zip(hex(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match (byte, escaped) {
            (b'+', _) => out.push(b' '),
            (b'%', Some(value)) => {
                out.push(value);
                rest = behind.get(2..).unwrap_or_default();
            }
            (other, _) => out.push(*other),
        }
    }
    out
}

/// The text, cut to `most` bytes.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    text
}
