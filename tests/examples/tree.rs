//! Draws the sample session: `cargo run -p execpath-tests --example tree [jsonl]`.

use std::io;

use execpath::{
    model::{BootTime, Change, ExitStatus, Finding, Gap, GapCode, Report, SessionId},
    sink::{self, Style},
};
use execpath_tests::samples::{self, finding};

fn main() -> io::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "tree".to_owned());
    let format = sink::format(&name).ok_or_else(|| io::Error::other("no such format"))?;
    let color = std::env::var_os("NO_COLOR").is_none();
    let mut sink = (format.open)(Box::new(io::stdout()), Style { color });
    sink.host(&samples::header())?;
    for seen in samples::life() {
        sink.change(&seen)?;
    }
    // A second session, older than the trace, whose joins come late, with the lines of a third between them.
    let mut old = samples::whole();
    old.id = SessionId("s-0b77e1".into());
    old.preexisting = true;
    old.complete = false;
    old.links.retain(|link| link.from != 1);
    old.gaps.push(Gap { code: GapCode::Unjoined, between: Some((1, 2)), text: "waiting for traffic: no byte has passed since the trace began, so nothing says which of its outbound connections belongs to this one".into() });
    sink.change(&finding(70_000, Change::Opened, old.clone()))?;
    let mut other = samples::partial(2);
    other.id = SessionId("s-c01d99".into());
    sink.change(&finding(70_001, Change::Opened, other.clone()))?;
    let mut joined = samples::whole();
    joined.id = old.id.clone();
    sink.change(&finding(70_100, Change::Changed, joined))?;
    sink.change(&Finding { at: BootTime(0), change: Change::Loss { what: "ring-full".into(), count: 12 } })?;
    other = samples::partial(3);
    other.id = SessionId("s-c01d99".into());
    sink.change(&finding(70_120, Change::Changed, other.clone()))?;
    let mut killed = samples::closed(ExitStatus::Signal(9));
    killed.id = old.id;
    sink.change(&finding(71_000, Change::Closed, killed))?;
    sink.finish(&Report { at: samples::after(75_000), sessions: vec![other], ..Report::default() })
}
