//! Values of options: how they are written, and their bounds.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use regex::bytes::Regex;

use crate::record;

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Nanoseconds of UTC since 1970.
    Utc(u64),
    /// Time since the recording began.
    After(Duration),
}

/// Address of an API server, with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(both) = text.parse::<SocketAddr>() {
            return Ok(Self { address: both.ip(), port: Some(both.port()) });
        }
        let address = text.trim_start_matches('[').trim_end_matches(']').parse();
        let address = address.map_err(|_error| "examples: `10.0.0.1`, `10.0.0.1:6443`, `[fd00::1]:6443`".to_owned())?;
        Ok(Self { address, port: None })
    }
}

/// An address to listen on: `:PORT` stands for every address of this host.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
    // One socket takes IPv4 and IPv6 (ipv6(7): IPV6_V6ONLY is off by default).
    let every = port.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    every.or_else(|| text.parse().ok()).ok_or_else(|| "examples: `127.0.0.1:9464`, `[::1]:9464`, `:9464`".to_owned())
}

/// The last line of a regex's error. The lines before it are a drawing.
pub(super) fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        last.strip_prefix("error: ").unwrap_or(last).to_owned()
    })
}

/// Two samples closer together than this show no standstill.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(crate::diagnose::APART.as_millis());
    match duration(text) {
        Ok(time) if time < least => Err(format!("must be at least {}", humantime::format_duration(least))),
        outcome => outcome,
    }
}

/// At least the distance that shows a standstill, and at most half the time that numbers are kept.
pub(super) fn measure(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(crate::diagnose::APART.as_millis());
    match duration(text) {
        Ok(time) if !(least..=Duration::from_secs(30)).contains(&time) => {
            Err(format!("must be from {} to 30s", humantime::format_duration(least)))
        }
        outcome => outcome,
    }
}

/// RFC 3339, or `+` and a duration.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Some(after) = text.strip_prefix('+') {
        return time_span(after).map(Moment::After);
    }
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|error| format!("{error}; examples: `2026-11-21T22:14:03Z`, `+90s`"))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|error| error.to_string())?;
    u64::try_from(since.as_nanos()).map(Moment::Utc).map_err(|error| error.to_string())
}

/// A size that has room for several batches.
pub(super) fn queue_bytes(text: &str) -> Result<u64, String> {
    match record::size(text) {
        Some(bytes) if bytes < 1_000_000 => Err("must be 1MB or more".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("examples: `64MB`, `1GiB`".to_owned()),
    }
}

pub(super) fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.001..=1_000_000.0).contains(&factor) => Ok(factor),
        Ok(_) => Err("must be from 0.001 to 1000000".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match time_span(text) {
        Ok(time) if time.is_zero() => Err("must be longer than zero".to_owned()),
        outcome => outcome,
    }
}

/// `90s`, `1h 30m`; a number without a unit is seconds, as in `sleep` and `timeout`.
fn time_span(text: &str) -> Result<Duration, String> {
    let is_number = !text.is_empty() && text.chars().all(|char| char.is_ascii_digit() || char == '.');
    if is_number && let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}
