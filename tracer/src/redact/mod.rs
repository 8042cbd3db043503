//! Removes secrets from arguments at the source, before correlator and recorder, so that output and recording contain
//! the same.

mod secrets;

use regex::bytes::{NoExpand, Regex};

use self::secrets::{REDACTED, Secrets};
use crate::model::{Observation, RawText, WatchAs, parse_monitor, parse_runc_exec};

/// Rules for removing secrets from arguments.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Drop all arguments except the first one, the program.
    pub no_args: bool,
    /// Replace matches of these patterns, in each argument separately.
    pub patterns: Vec<Regex>,
    /// Keep text that looks like a password, token or key.
    pub keep_secrets: bool,
}

impl Redactor {
    /// True if no rule is active.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.no_args && self.patterns.is_empty() && self.keep_secrets
    }

    /// Redacts one observation. The arguments of the runtime's own `runc exec` and of its monitors stay: their ids and
    /// paths prove links, and the command itself is in a file.
    pub fn redact(&self, seen: &mut Observation) {
        if self.is_idle() {
            return;
        }
        if let Some((command, truncated)) = seen.fact.request_mut() {
            self.redact_words(command, truncated);
        }
        let Some(process) = seen.fact.process_mut() else { return };
        let is_below = process.watched == Some(WatchAs::RuntimeChild);
        if is_below && (parse_runc_exec(&process.argv).is_some() || parse_monitor(&process.argv).is_some()) {
            return;
        }
        self.redact_words(&mut process.argv, &mut process.argv_truncated);
    }

    /// Redacts a command line. Sets `truncated` if words are dropped.
    pub fn redact_words(&self, words: &mut Vec<RawText>, truncated: &mut bool) {
        if self.no_args && words.len() > 1 {
            words.truncate(1);
            *truncated = true;
        }
        if !self.keep_secrets {
            Secrets::get().mask(words);
        }
        for pattern in &self.patterns {
            for word in words.iter_mut() {
                if pattern.is_match(word.as_bytes()) {
                    *word = RawText::from(pattern.replace_all(word.as_bytes(), NoExpand(REDACTED)).as_ref());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AuditEvent, AuditRequest, AuditUser, BootTime, Fact, ProcessInfo, Source, Subresource, TaskKey,
    };

    /// A redactor that does nothing by itself.
    fn only() -> Redactor {
        Redactor { keep_secrets: true, ..Redactor::default() }
    }

    fn redacted(redactor: &Redactor, words: &[&str], watched: WatchAs) -> (Vec<String>, bool) {
        let argv = words.iter().map(|word| RawText::from(*word)).collect();
        let process = Box::new(ProcessInfo { argv, watched: Some(watched), ..ProcessInfo::default() });
        let task = TaskKey::from_ticks(1, 1);
        let mut seen = Observation::of(BootTime(1), Source::Ebpf, task, Fact::Exec(process));
        redactor.redact(&mut seen);
        let Fact::Exec(process) = seen.fact else { return Default::default() };
        (process.argv.iter().map(|word| word.to_text().into_owned()).collect(), process.argv_truncated)
    }

    fn requested(command: &[&str]) -> Fact {
        Fact::Audited(Box::new(AuditEvent {
            id: "a".into(),
            received: BootTime(1),
            written: BootTime(1),
            over: false,
            code: None,
            older: false,
            sources: Vec::new(),
            user: AuditUser::default(),
            request: AuditRequest {
                subresource: Subresource::Exec,
                namespace: "default".into(),
                pod: "web".into(),
                container: None,
                command: command.iter().map(|word| RawText::from(*word)).collect(),
                command_truncated: false,
                stdin: false,
                tty: false,
            },
        }))
    }

    #[test]
    fn secrets_are_masked_and_link_proofs_stay() {
        let pattern = Redactor { patterns: vec![Regex::new("(token|password)=[^ ]+").unwrap()], ..only() };
        let none = Redactor { no_args: true, ..only() };
        let curl = ["curl", "-d", "a token=$1abc b", "password=x"];
        assert_eq!(
            redacted(&pattern, &curl, WatchAs::InContainer),
            (["curl", "-d", "a *** b", "***"].map(str::to_owned).into(), false)
        );
        assert_eq!(redacted(&none, &curl, WatchAs::InContainer), (vec!["curl".to_owned()], true));
        assert_eq!(redacted(&none, &["sh"], WatchAs::InContainer), (vec!["sh".to_owned()], false));
        let runc = ["runc", "exec", "--process", "/tmp/token=p", "--pid-file", "/x/e.pid", "c"];
        for redactor in [&pattern, &none] {
            assert_eq!(redacted(redactor, &runc, WatchAs::RuntimeChild).0, runc);
            assert_ne!(redacted(redactor, &runc, WatchAs::Endpoint).0, runc, "anybody can have such arguments");
        }
        let kubectl = ["kubectl", "exec", "db", "--", "mysql", "-p", "hunter2", "db"];
        for watched in [WatchAs::Endpoint, WatchAs::RuntimeChild] {
            assert_eq!(redacted(&none, &kubectl, watched).0, ["kubectl"]);
        }
        for (redactor, left) in [(&pattern, &["sh", "***"][..]), (&none, &["sh"])] {
            let mut seen = Observation::new(BootTime(1), Source::Snapshot, requested(&["sh", "token=x"]));
            redactor.redact(&mut seen);
            let (command, truncated) = seen.fact.request_mut().expect("a request");
            assert_eq!(
                (&command[..], *truncated),
                (&left.iter().map(|word| RawText::from(*word)).collect::<Vec<_>>()[..], redactor.no_args)
            );
        }
    }

    #[test]
    fn likely_secrets_are_masked_unless_kept() {
        let mysql = ["kubectl", "exec", "db", "--", "mysql", "--password=hunter2"];
        assert_eq!(redacted(&Redactor::default(), &mysql, WatchAs::Endpoint).0[5], "--password=***");
        assert_eq!(redacted(&only(), &mysql, WatchAs::Endpoint).0, mysql);
        let mut seen = Observation::new(BootTime(1), Source::Snapshot, requested(&["mysql", "-phunter2"]));
        Redactor::default().redact(&mut seen);
        let (command, _) = seen.fact.request_mut().expect("a request");
        assert_eq!(command[..], [RawText::from("mysql"), RawText::from("-p***")]);
    }
}
