//! From a match to a verdict: names of similar faults, and templates filled with numbers of the session.

use super::{
    ctx::SessionCtx,
    fault::{Apart, Fault},
    faults::FAULTS,
    finding::{Advice, RuleMatch},
};
use crate::model::{About, ToldApart, Verdict};

/// The verdict of a match. `ctx` is the session that it belongs to.
pub(super) fn verdict(fault: &Fault, ctx: Option<&SessionCtx<'_>>, found: RuleMatch) -> Verdict {
    let RuleMatch { name, advice, task: _, hop, link, about, since, evidence } = found;
    let Advice { next, manual } = advice.unwrap_or(Advice { next: fault.next, manual: fault.manual });
    let fill = |template: &&str| filled(template, |name| value(name, &about, ctx));
    let steps = ctx.map_or_else(Vec::new, |ctx| ctx.trail(fault.step));
    Verdict {
        code: fault.code,
        name: name.unwrap_or(fault.name),
        short: fault.short,
        severity: fault.severity,
        means: fault.means,
        session: ctx.map(|ctx| ctx.session.id.clone()),
        hop,
        link,
        about,
        since,
        until: None,
        evidence: steps.into_iter().chain(evidence).collect(),
        told_apart_from: fault.apart.iter().filter_map(|apart| told(apart, ctx)).collect(),
        next: next.iter().filter_map(fill).collect(),
        manual: manual.iter().filter_map(fill).collect(),
    }
}

/// The other fault, if the session can have it.
fn told(apart: &Apart, ctx: Option<&SessionCtx<'_>>) -> Option<ToldApart> {
    let other = FAULTS.iter().find(|fault| fault.code == apart.code)?;
    let can_be = ctx.is_none_or(|ctx| ctx.is_of(other.kinds));
    can_be.then_some(ToldApart { code: apart.code, name: other.name, by: apart.by })
}

/// The value of a placeholder: a number of the match, or the pid of the innermost hop with that role.
fn value(name: &str, about: &About, ctx: Option<&SessionCtx<'_>>) -> Option<String> {
    match name {
        "pid" => about.pid.map(|pid| pid.to_string()),
        "fd" => about.fd.map(|fd| fd.to_string()),
        "inode" => about.inode.map(|inode| inode.to_string()),
        "local" => about.local.map(|address| address.to_string()),
        "remote" => about.remote.map(|address| address.to_string()),
        "host" => about.remote.map(|address| address.ip().to_string()),
        "port" => about.remote.map(|address| address.port().to_string()),
        role => {
            let hops = &ctx?.session.hops;
            hops.iter().rev().find(|hop| hop.role.token() == role).map(|hop| hop.task.tgid.to_string())
        }
    }
}

/// Fills in a template. Returns `None` where a placeholder has no value: half a command is worse than none.
fn filled(template: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}')?;
        text.push_str(before);
        text.push_str(&value(name)?);
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

/// A template for documentation: placeholders become words in capitals.
#[must_use]
pub fn shown(template: &str) -> String {
    let capitals = |name: &str| match name {
        "pid" | "fd" | "inode" | "local" | "remote" | "host" | "port" => Some(name.to_uppercase()),
        role => Some(format!("{}_PID", role.to_uppercase())),
    };
    filled(template, capitals).unwrap_or_else(|| template.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_filled_or_omitted() {
        let value = |name: &str| (name == "pid").then(|| "7".to_owned());
        assert_eq!(filled("cat /proc/{pid}/stat", value).as_deref(), Some("cat /proc/7/stat"));
        assert_eq!(filled("cat /proc/{pid}/fd/{fd}", value), None);
        assert_eq!(shown("ss src {local} # {kubectl}"), "ss src LOCAL # KUBECTL_PID");
    }
}
