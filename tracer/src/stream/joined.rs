//! Joins the parts of one host's recording.

use std::io::{self, Read};

use super::address::token_of;
use crate::record::{Header, MAX_BATCH, is_continued};

/// Largest zstd window, as a power of two, as for files.
const MAX_WINDOW_LOG: u32 = 23;

/// Contribution of a message to a recording, decompressed.
pub(super) enum Added {
    /// None.
    Nothing,
    /// All its lines.
    Whole(Vec<u8>),
    /// Some of its lines: the others belong to the beginning or end of a part.
    Lines(Vec<u8>),
}

/// Parts of a recording, joined to one.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined {
    /// Header of the first part; `None` before a part has begun.
    header: Option<Header>,
    /// Repeated observations still to be left out.
    to_skip: u64,
}

impl Joined {
    /// Header of the recording; `None` before a part has begun.
    pub(super) const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Adds a message. Those before the first beginning of a part are left out.
    pub(super) fn add(&mut self, host: &str, boot_id: &str, payload: &[u8]) -> Result<Added, String> {
        let text = text(payload).map_err(|error| error.to_string())?;
        let mut lines: &[u8] = &text;
        let mut is_whole = true;
        if text.starts_with(BEGINNING) {
            let end = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
            let header: Header =
                serde_json::from_slice(&text[..end]).map_err(|error| format!("its header: {error}"))?;
            check(&header, host, boot_id)?;
            let told_again = header.part.map_or(0, |part| part.told_again);
            let header = Header { part: None, ..header };
            match &self.header {
                Some(first) if *first == header => {
                    self.to_skip = told_again;
                    lines = &text[end..];
                    is_whole = false;
                }
                Some(_) => return Err("its header differs from the one before".to_owned()),
                None => self.header = Some(header),
            }
        }
        if self.header.is_none() {
            return Ok(Added::Nothing);
        }
        while self.to_skip > 0 && !lines.is_empty() {
            let end = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
            lines = &lines[end..];
            self.to_skip -= 1;
            is_whole = false;
        }
        let without_end = lines.strip_suffix(b"\n").unwrap_or(lines);
        let last = without_end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if without_end.get(last..).is_some_and(is_continued) {
            lines = &lines[..last];
            is_whole = false;
        }
        Ok(if is_whole { Added::Whole(text) } else { Added::Lines(lines.to_vec()) })
    }
}

/// Beginning of a header, as the writer writes it.
const BEGINNING: &[u8] = b"{\"execpath\":";

/// A host speaks for itself alone.
fn check(header: &Header, host: &str, boot_id: &str) -> Result<(), String> {
    if token_of(&header.host.hostname).as_deref() != Some(host) {
        return Err("it speaks for another host than its subject names".to_owned());
    }
    if !header.others.is_empty() {
        return Err("it speaks for several hosts".to_owned());
    }
    if header.host.boot_id != boot_id {
        return Err("its boot id is not that of its message id".to_owned());
    }
    Ok(())
}

/// The lines of a batch.
pub(super) fn text(payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(payload)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    let mut text = Vec::new();
    decoder.take(MAX_BATCH as u64 + 1).read_to_end(&mut text)?;
    if text.len() > MAX_BATCH {
        return Err(io::Error::other(format!("it is longer than {} KiB after decompression", MAX_BATCH >> 10)));
    }
    if !text.ends_with(b"\n") {
        return Err(io::Error::other("it does not end with a whole line"));
    }
    Ok(text)
}

/// True if a message begins a part.
pub(super) fn begins_part(payload: &[u8]) -> bool {
    let mut beginning = [0; BEGINNING.len()];
    let decoder = zstd::Decoder::with_buffer(payload);
    decoder.is_ok_and(|mut decoder| {
        decoder.window_log_max(MAX_WINDOW_LOG).is_ok()
            && decoder.read_exact(&mut beginning).is_ok()
            && beginning == *BEGINNING
    })
}
