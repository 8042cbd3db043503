//! Client, attempt, hops and links of open sessions as JSON. Each line repeats the whole session, but most changes leave these
//! parts as they were: a line copies their JSON instead of making it anew.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::Arc,
};

use serde_json::value::RawValue;

use super::{
    attempt::AttemptPieces,
    client::{Client, client_confidence},
    hop::Hop,
    links::Link,
};
use crate::{
    model::{self, Confidence, ExitStatus, Measures, ProcessInfo, Role, Session, SessionId, TaskKey},
    sink::{Header, json},
};

/// Parts of all open sessions, without measurements: those change with every line.
#[derive(Default)]
pub(in crate::sink) struct Parts {
    sessions: BTreeMap<SessionId, SessionParts>,
    /// Hops of these sessions by process and role. Sessions share their daemons, whose arguments are long.
    hops: BTreeMap<HopKey, HopPart>,
    unmeasured: Measures,
}

/// Parts of one session, in its order.
pub(in crate::sink) struct SessionParts {
    client: ClientPart,
    attempt: AttemptPieces,
    hops: Vec<(HopKey, HopPart)>,
    links: Vec<(model::Link, Arc<RawValue>)>,
}

/// A client with other properties of its session that are fields of the client: the confidence of its leg, its exit
/// status, and whether that agrees with the command's.
type ClientPart = (model::Client, ClientFields, Box<RawValue>);

type ClientFields = (Option<Confidence>, Option<ExitStatus>, Option<bool>);

fn client_fields(session: &Session) -> ClientFields {
    (client_confidence(session), session.client_exit(), session.exit_agrees())
}

type HopKey = (TaskKey, Role);

#[derive(Clone)]
struct HopPart {
    process: Arc<ProcessInfo>,
    json: Arc<RawValue>,
}

impl Parts {
    /// Updates the parts of a session, and returns them.
    ///
    /// # Errors
    /// A part cannot be serialised.
    pub(in crate::sink) fn update(&mut self, session: &Session, header: &Header) -> io::Result<&SessionParts> {
        let Self { sessions, hops, unmeasured } = self;
        let parts = match sessions.entry(session.id.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let client = client_part(session, header)?;
                let attempt = AttemptPieces::default();
                new.insert(SessionParts { client, attempt, hops: Vec::new(), links: Vec::new() })
            }
        };
        let (client, fields, _) = &parts.client;
        if *client != session.client || *fields != client_fields(session) {
            parts.client = client_part(session, header)?;
        }
        let is_same = |old: &(HopKey, HopPart), hop: &model::Hop| {
            old.0 == (hop.task, hop.role) && Arc::ptr_eq(&old.1.process, &hop.process)
        };
        let has_same_hops = parts.hops.len() == session.hops.len()
            && parts.hops.iter().zip(&session.hops).all(|(old, hop)| is_same(old, hop));
        if !has_same_hops {
            let made: io::Result<_> = session.hops.iter().map(|hop| hop_part(hops, hop, header, unmeasured)).collect();
            let old = std::mem::replace(&mut parts.hops, made?);
            release(hops, old);
        }
        parts.attempt.update(session, header)?;
        update_links(&mut parts.links, &session.links, unmeasured)?;
        Ok(parts)
    }

    /// Forgets the parts of a session.
    pub(in crate::sink) fn forget(&mut self, session: &SessionId) {
        if let Some(parts) = self.sessions.remove(session) {
            release(&mut self.hops, parts.hops);
        }
    }
}

impl SessionParts {
    pub(super) fn client(&self) -> &RawValue {
        &self.client.2
    }

    pub(super) fn attempt(&self) -> Option<&RawValue> {
        self.attempt.json()
    }

    pub(super) fn hops(&self) -> impl Iterator<Item = &RawValue> {
        self.hops.iter().map(|(_, part)| &*part.json)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &RawValue> {
        self.links.iter().map(|(_, json)| &**json)
    }
}

fn client_part(session: &Session, header: &Header) -> io::Result<ClientPart> {
    let json = json::part(&Client::new(session, header))?;
    Ok((session.client.clone(), client_fields(session), json))
}

fn hop_part(
    hops: &mut BTreeMap<HopKey, HopPart>,
    hop: &model::Hop,
    header: &Header,
    unmeasured: &Measures,
) -> io::Result<(HopKey, HopPart)> {
    let key = (hop.task, hop.role);
    if let Some(known) = hops.get(&key).filter(|known| known.process == hop.process) {
        return Ok((key, HopPart { process: Arc::clone(&hop.process), json: Arc::clone(&known.json) }));
    }
    let json = json::part(&Hop::new(hop, header, unmeasured))?.into();
    let part = HopPart { process: Arc::clone(&hop.process), json };
    hops.insert(key, part.clone());
    Ok((key, part))
}

/// Forgets hops that no session has any more.
fn release(hops: &mut BTreeMap<HopKey, HopPart>, old: Vec<(HopKey, HopPart)>) {
    for (key, part) in old {
        drop(part);
        if hops.get(&key).is_some_and(|part| Arc::strong_count(&part.json) == 1) {
            hops.remove(&key);
        }
    }
}

fn update_links(
    links: &mut Vec<(model::Link, Arc<RawValue>)>,
    new: &[model::Link],
    unmeasured: &Measures,
) -> io::Result<()> {
    if links.len() == new.len() && links.iter().zip(new).all(|((old, _), new)| old == new) {
        return Ok(());
    }
    let made = new.iter().map(|link| {
        let known = links.iter().find(|(old, _)| old == link);
        let json = match known {
            Some((_, json)) => Arc::clone(json),
            None => json::part(&Link::new(link, unmeasured))?.into(),
        };
        Ok((link.clone(), json))
    });
    *links = made.collect::<io::Result<_>>()?;
    Ok(())
}
