//! Fast path of the reader: lines in the layout of this program's own writer.

use crate::model::{BootTime, Fact, HostNo, Observation, Source, TaskKey};

/// True for the line with which a part ends, as the writer writes it.
#[must_use]
pub fn is_continued(line: &[u8]) -> bool {
    line.ends_with(b",\"fact\":\"continued\"}")
}

/// Parses a line without white space and with its fields in the writer's order. `None` for any other line, valid or not:
/// the caller parses it as JSON. The fact itself is parsed as JSON here, too; the fields before it are half of the work.
pub(super) fn parse(line: &str) -> Option<Observation> {
    let mut rest = Rest(line);
    rest.skip("{\"at\":")?;
    let at = BootTime(rest.number()?);
    let source = match rest.text_of(",\"source\":\"", '"')? {
        "ebpf" => Source::Ebpf,
        "snapshot" => Source::Snapshot,
        "engine" => Source::Engine,
        _ => return None,
    };
    let mut seq = None;
    if rest.skip(",\"seq\":[").is_some() {
        let cpu = rest.number()?.try_into().ok()?;
        rest.skip(",")?;
        seq = Some((cpu, rest.number()?));
        rest.skip("]")?;
    }
    let task = if rest.skip(",\"task\":{\"tgid\":").is_some() { Some(rest.task()?) } else { None };
    let tid = if rest.skip(",\"tid\":").is_some() { Some(rest.number()?.try_into().ok()?) } else { None };
    rest.skip(",\"fact\":")?;
    let fact = match rest.0.strip_suffix('}')? {
        "\"tick\"" => Fact::Tick,
        fact => serde_json::from_str(fact).ok()?,
    };
    Some(Observation { at, source, seq, task, tid, fact })
}

/// The part of a line that is not parsed yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Skips an expected text.
    fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Text between `before` and `end`.
    fn text_of(&mut self, before: &str, end: char) -> Option<&'a str> {
        self.skip(before)?;
        let (text, rest) = self.0.split_once(end)?;
        self.0 = rest;
        Some(text)
    }

    /// A number as JSON has it: without sign, leading zeros, fraction and exponent.
    fn number(&mut self) -> Option<u64> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.0.split_at_checked(digits)?;
        if digits == 0 || (digits > 1 && number.starts_with('0')) || rest.starts_with(['.', 'e', 'E']) {
            return None;
        }
        self.0 = rest;
        number.bytes().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
    }

    /// The rest of a process's identity, after its first key.
    fn task(&mut self) -> Option<TaskKey> {
        let tgid = self.number()?.try_into().ok()?;
        self.skip(",\"start_ticks\":")?;
        let start_ticks = self.number()?;
        let host = if self.skip(",\"host\":").is_some() { self.number()?.try_into().ok()? } else { 0 };
        self.skip("}")?;
        Some(TaskKey { tgid, start_ticks, host: HostNo(host) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Actor, RawText};

    fn samples() -> Vec<Observation> {
        let task = TaskKey { tgid: 7, start_ticks: u64::MAX, host: HostNo(3) };
        let path = RawText::from(b"/run/\xff\"}\\".as_slice());
        let made = Fact::FifoMade { actor: Actor::default(), inbound: None, from: None, path };
        let plain = Observation::new(BootTime(0), Source::Engine, Fact::Tick);
        let of = |source, fact| Observation::of(BootTime(u64::MAX), source, task, fact);
        let full = Observation { seq: Some((1, 2)), tid: Some(8), ..of(Source::Ebpf, made) };
        vec![plain, of(Source::Snapshot, Fact::ProcessGone), full]
    }

    #[test]
    fn own_lines_are_parsed() {
        for seen in samples() {
            assert_eq!(parse(&serde_json::to_string(&seen).unwrap()), Some(seen));
        }
    }

    #[test]
    fn line_at_the_end_of_a_part_is_known() {
        let line = |fact| serde_json::to_vec(&Observation::new(BootTime(7), Source::Engine, fact)).unwrap();
        assert!(is_continued(&line(Fact::Continued)));
        assert!(!is_continued(&line(Fact::Stopped)));
        assert!(!is_continued(&line(Fact::Lost { what: "\"fact\":\"continued\"}".to_owned(), count: 1 })));
    }

    #[test]
    fn changed_lines_are_refused_or_mean_the_same() {
        for seen in samples() {
            let line = serde_json::to_string(&seen).unwrap().into_bytes();
            for at in 0..line.len() {
                for byte in b"0-.e \"{}[],:x\\" {
                    let mut changed = line.clone();
                    changed[at] = *byte;
                    let longer = [&line[..at], &[*byte], &line[at..]].concat();
                    for line in [changed, longer, line[..at].to_vec()] {
                        let Ok(line) = String::from_utf8(line) else { continue };
                        let fast = parse(&line);
                        assert!(fast.is_none() || fast == serde_json::from_str(&line).ok(), "{line}");
                    }
                }
            }
        }
    }
}
