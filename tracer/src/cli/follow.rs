//! `trace --from` and `watch --from`: all hosts of a cluster, live.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    args,
    error::{Failure, nothing_seen, tell},
    exit::Exit,
    input::{list, read_failure},
    resolve,
    shared_args::Since,
    stream::{address, credentials},
};
use crate::{
    confine,
    engine::{Setup, Until},
    escape,
    follow::{Follow, FollowError, Health, Lag, Options, seconds},
    live,
    sink::{
        FORMATS,
        phrases::{NAME, counted},
    },
    stream::{Address, Subscription},
    watch::LiveTrace,
};

/// Shows the sessions of all hosts as they open, change and close.
pub(super) fn trace(args: args::Trace, verbose: u8) -> Result<Exit, Failure> {
    let outputs = resolve::explained(resolve::outputs(&args.output.output, FORMATS)?, args.output.explain, FORMATS)?;
    let (address, subscription) = subscribe(args.from.as_ref(), "trace", &args.since)?;
    let is_stopped = signals()?;
    let written: Vec<&Path> = outputs.iter().filter_map(|output| output.path.as_deref()).collect();
    confine::to_follow(&written);
    let mut sinks = resolve::open(&outputs, args.output.color)?;
    resolve::detail(&mut sinks, verbose);
    let mut hosts = Hosts { address: address.to_string(), before: None };
    let options = Options {
        setup: Setup {
            sinks,
            until: if args.once { Until::Complete } else { Until::Never },
            ..resolve::silent(args.filter, args.privacy)
        },
        since: args.since.since(),
        duration: args.duration,
        is_stopped: Box::new(move || is_stopped.load(Ordering::Relaxed)),
        health: Box::new(move |health| hosts.tell(health)),
        watcher: None,
    };
    let shown = Follow::new(subscription, options).run().map_err(|error| failure_of(&address, &error))?;
    if args.once && shown.timed_out && shown.sessions == 0 { Err(nothing_seen()) } else { Ok(Exit::Done) }
}

/// Begins to follow a cluster for the screen.
pub(super) fn watch(args: args::Screen) -> Result<LiveTrace, Failure> {
    let (_address, subscription) = subscribe(args.from.as_ref(), "watch", &args.since)?;
    confine::to_follow(&[]);
    let options = Options {
        setup: resolve::silent(args.look.filter, args.look.privacy),
        since: args.since.since(),
        duration: None,
        is_stopped: Box::new(|| false),
        health: Box::new(|_health| {}),
        watcher: None,
    };
    LiveTrace::follow(subscription, options, note).map_err(|error| Failure::writing(&error))
}

/// Why following has ended early.
pub(super) fn failure(error: &FollowError) -> Failure {
    match error {
        FollowError::Read(error) => {
            Failure::new(Exit::BadInput, format!("cannot follow the stream: {error}"), "check the server, and retry")
        }
        FollowError::Sink(error) => Failure::writing(error),
    }
}

fn failure_of(address: &Address, error: &FollowError) -> Failure {
    match error {
        FollowError::Read(error) => read_failure(address, error),
        FollowError::Sink(_) => failure(error),
    }
}

fn subscribe(from: Option<&PathBuf>, command: &str, since: &Since) -> Result<(Address, Subscription), Failure> {
    let meant = from.map(|from| address(from)).transpose()?.flatten();
    let Some(address) = meant else {
        return Err(Failure::usage(
            format!("`--from` of `{command}` takes the address of a cluster's stream"),
            "example: `--from nats://nats.example/prod`; `replay FILE` and `watch FILE` show a recording",
        ));
    };
    confine::drop_capabilities();
    let credentials = credentials(&since.nats, &address)?;
    let subscription = Subscription::start(&address, &credentials, since.since());
    let subscription = subscription.map_err(|error| read_failure(&address, &error))?;
    Ok((address, subscription))
}

/// Set once SIGINT or SIGTERM has arrived.
fn signals() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let arrived = Arc::clone(&flag);
    let wait = move || {
        if let Err(error) = live::wait(None) {
            tracing::warn!(%error, "signals cannot be received");
        }
        arrived.store(true, Ordering::Relaxed);
    };
    thread::Builder::new().name("stop".to_owned()).spawn(wait).map_err(|error| Failure::writing(&error))?;
    Ok(flag)
}

/// Reports changes of the hosts on stderr.
struct Hosts {
    address: String,
    before: Option<Health>,
}

impl Hosts {
    fn tell(&mut self, health: &Health) {
        for text in self.changes(health) {
            tell("notice", &text);
        }
        self.before = Some(health.clone());
    }

    fn changes(&self, health: &Health) -> Vec<String> {
        let mut lines = Vec::new();
        let mut notice = |text: String| lines.push(text);
        let name = |host: &str| escape::str(host, NAME);
        let empty = Health::default();
        let before = self.before.as_ref().unwrap_or(&empty);
        if health.hosts.keys().ne(before.hosts.keys()) || self.before.is_none() {
            let heard = counted(health.hosts.len() as u64, "host");
            let names = list(health.hosts.keys().map(String::as_str));
            let of = if health.hosts.is_empty() { String::new() } else { format!(": {names}") };
            notice(format!("{}: {heard} heard{of}", self.address));
        }
        for (host, lag) in &health.hosts {
            let host_name = name(host);
            match (before.hosts.get(host).copied().unwrap_or(Lag::None), *lag) {
                (Lag::None | Lag::Behind(_), Lag::Silent(span)) => {
                    notice(format!("host {host_name}: silent for {} s", seconds(span)));
                }
                (Lag::None | Lag::Silent(_), Lag::Behind(span)) => {
                    notice(format!("host {host_name}: behind by {} s", seconds(span)));
                }
                (Lag::Silent(_) | Lag::Behind(_), Lag::None) => {
                    notice(format!("host {host_name}: heard in time again"))
                }
                (Lag::None, Lag::None) | (Lag::Silent(_), Lag::Silent(_)) | (Lag::Behind(_), Lag::Behind(_)) => {}
            }
        }
        for host in health.unreadable.difference(&before.unreadable) {
            notice(format!("host {}: nothing to show before its next part, within two minutes", name(host)));
        }
        for (host, messages) in &health.discarded {
            let more = messages - before.discarded.get(host).copied().unwrap_or_default();
            if more > 0 {
                let oldest = counted(more, "message");
                notice(format!(
                    "host {}: {oldest} discarded, the oldest: all hosts have more than 256 MiB",
                    name(host)
                ));
            }
        }
        match (&before.trouble, &health.trouble) {
            (None, Some(why)) => notice(format!("the stream cannot be read now: {why}")),
            (Some(_), None) => notice("the stream is read again".to_owned()),
            (None, None) | (Some(_), Some(_)) => {}
        }
        lines
    }
}

/// State of the hosts for the title of the screen.
fn note(health: &Health) -> String {
    let mut parts = vec![counted(health.hosts.len() as u64, "host")];
    let of = |lag: fn(&Lag) -> Option<String>| {
        let late = health.hosts.iter().filter_map(|(host, one)| Some(format!("{host} {}", lag(one)?)));
        late.collect::<Vec<_>>().join(", ")
    };
    let silent = of(|lag| if let Lag::Silent(span) = lag { Some(format!("{} s", seconds(*span))) } else { None });
    let behind = of(|lag| if let Lag::Behind(span) = lag { Some(format!("{} s", seconds(*span))) } else { None });
    let unreadable = health.unreadable.iter().cloned().collect::<Vec<_>>().join(", ");
    for (what, hosts) in [("silent", silent), ("behind", behind), ("unreadable", unreadable)] {
        if !hosts.is_empty() {
            parts.push(format!("{what}: {hosts}"));
        }
    }
    let discarded: u64 = health.discarded.values().sum();
    if discarded > 0 {
        parts.push(format!("{} discarded", counted(discarded, "message")));
    }
    if health.trouble.is_some() {
        parts.push("the stream cannot be read now".to_owned());
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    fn health(hosts: &[(&str, Lag)]) -> Health {
        Health { hosts: hosts.iter().map(|(host, lag)| ((*host).to_owned(), *lag)).collect(), ..Health::default() }
    }

    #[test]
    fn each_change_of_hosts_is_reported_once() {
        let mut hosts = Hosts { address: "nats://h:4222/c".to_owned(), before: None };
        let mut changes = |health: Health| {
            let lines = hosts.changes(&health);
            hosts.before = Some(health);
            lines
        };
        assert_eq!(changes(Health::default()), ["nats://h:4222/c: 0 hosts heard"]);
        let [silent, longer] = [15, 16].map(|seconds| Lag::Silent(Span::from_secs(seconds)));
        assert_eq!(changes(health(&[("a", Lag::None)])), ["nats://h:4222/c: 1 host heard: a"]);
        assert_eq!(changes(health(&[("a", Lag::None)])), [""; 0]);
        assert_eq!(changes(health(&[("a", silent)])), ["host a: silent for 15 s"]);
        assert_eq!(changes(health(&[("a", longer)])), [""; 0]);
        let behind = Lag::Behind(Span::from_secs(9));
        assert_eq!(changes(health(&[("a", behind)])), ["host a: behind by 9 s"]);
        assert_eq!(changes(health(&[("a", Lag::None)])), ["host a: heard in time again"]);
        let trouble = Health { trouble: Some("no answer".to_owned()), ..health(&[("a", Lag::None)]) };
        assert_eq!(changes(trouble), ["the stream cannot be read now: no answer"]);
        assert_eq!(changes(health(&[("a", Lag::None)])), ["the stream is read again"]);
        let discarded =
            |messages| Health { discarded: [("a".to_owned(), messages)].into(), ..health(&[("a", Lag::None)]) };
        let line = |count: &str| [format!("host a: {count} discarded, the oldest: all hosts have more than 256 MiB")];
        assert_eq!(changes(discarded(1)), line("1 message"));
        assert_eq!(changes(discarded(1)), [""; 0]);
        assert_eq!(changes(discarded(9)), line("8 messages"));
    }

    #[test]
    fn note_names_hosts_that_are_late() {
        let (silent, behind) = (Lag::Silent(Span::from_secs(42)), Lag::Behind(Span::from_secs(12)));
        assert_eq!(note(&health(&[("a", Lag::None)])), "1 host");
        let all =
            Health { unreadable: ["d".to_owned()].into(), ..health(&[("a", Lag::None), ("b", silent), ("c", behind)]) };
        assert_eq!(note(&all), "3 hosts; silent: b 42 s; behind: c 12 s; unreadable: d");
    }
}
