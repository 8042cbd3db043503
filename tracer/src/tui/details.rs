//! Details of the selected step: its numbers, evidence and explanation, and commands that show the same by hand.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{numbers::bytes, state::State, theme::Theme};
use crate::{
    escape,
    explain::{self, Step},
    model::{BootTime, Hop, Link, Report, Session, Severity, SocketId, Verdict},
    sink::{phrases, show, view},
};

/// Longest name, and longest untrusted text.
const NAME: usize = 63;
const TEXT: usize = 600;
/// Columns of a label.
const LABEL: usize = 9;

/// Lines of the details in a pane `width` columns wide.
pub(super) fn lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let (Some(session), Some(report), Some(step)) = (state.session(), &state.report, state.selected_step()) else {
        return Vec::new();
    };
    let mut page = DetailLines { theme: state.theme, width: usize::from(width).max(1), lines: Vec::new() };
    let explanation = explain::explain(session, step).unwrap_or_default();
    page.text(state.theme.bold(), &explanation.title);
    match step {
        Step::Session => page.session(session, report, state),
        Step::Hop(index) => page.hop(session, index, report),
        Step::Link(index) => {
            if let Some(link) = session.links.get(index) {
                page.link(session, link, report);
            }
        }
        Step::Beyond(_) | Step::Gap(_) => {}
    }
    page.blank();
    for text in [&explanation.what, &explanation.why] {
        page.text(Style::new(), text);
    }
    page.block("known by", &explanation.known);
    page.block("not seen", &explanation.unknown);
    for manual in &explanation.manual {
        page.blank();
        page.text(state.theme.good(), &format!("$ {}", manual.command));
        page.text(state.theme.dim(), &format!("shows {}", manual.shows));
    }
    page.lines
}

struct DetailLines {
    theme: Theme,
    width: usize,
    lines: Vec<Line<'static>>,
}

impl DetailLines {
    fn blank(&mut self) {
        self.lines.push(Line::default());
    }

    fn text(&mut self, style: Style, text: &str) {
        let folded = break_lines(text, self.width);
        self.lines.extend(folded.into_iter().map(|line| Line::from(Span::styled(line, style))));
    }

    /// A label with a folded text beside it.
    fn row(&mut self, label: &str, text: &str, style: Style) {
        let folded = break_lines(text, self.width.saturating_sub(LABEL + 1).max(1));
        for (number, line) in folded.into_iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            let label = Span::styled(format!("{label:LABEL$} "), self.theme.dim());
            self.lines.push(Line::from(vec![label, Span::styled(line, style)]));
        }
    }

    fn known(&mut self, label: &str, text: Option<String>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.row(label, &text, Style::new());
        }
    }

    fn block(&mut self, label: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.blank();
        }
        for (number, text) in texts.iter().enumerate() {
            self.row(if number == 0 { label } else { "" }, text, Style::new());
        }
    }

    fn session(&mut self, session: &Session, report: &Report, state: &State) {
        let when = |at: BootTime| view::moment(state.header.anchor, at);
        self.known("id", Some(escape::str(&session.id.0, NAME)));
        self.known("command", phrases::command(session, TEXT));
        self.known("who", phrases::who(session));
        self.known("user", phrases::user(session));
        self.known("opened", Some(when(session.opened_at)));
        self.known("closed", session.closed_at.map(when));
        self.known("exec id", session.exec_id.as_ref().map(|id| escape::str(id, NAME + 1)));
        self.known("container", session.target.container_id.as_ref().map(|id| escape::str(id, NAME + 1)));
        if let Some(verdict) = verdict_of(session, report) {
            self.verdict(verdict, state);
        }
        // In a recording: faults that were over before this moment.
        let anchor = state.header.anchor;
        let own = |verdict: &&Verdict| verdict.session.as_ref() == Some(&session.id);
        let over = report.diagnosis.over.iter().filter(own);
        let over: Vec<String> = over.map(|verdict| crate::sink::diagnosis::line(verdict, anchor, "")).collect();
        self.block("was", &over);
    }

    fn verdict(&mut self, verdict: &Verdict, state: &State) {
        let (anchor, is_recorded) = (state.header.anchor, state.clock.is_some());
        let ink = if verdict.severity == Severity::Fault { self.theme.bad() } else { self.theme.good() };
        self.blank();
        self.text(ink, &format!("{} {}", verdict.code, verdict.name));
        self.text(Style::new(), verdict.means);
        if let (Some(since), true) = (verdict.since, is_recorded) {
            self.known("since", Some(view::moment(anchor, since)));
        }
        let readings = verdict.evidence.iter().map(crate::sink::diagnosis::reading);
        self.block("seen", &readings.collect::<Vec<_>>());
        let next: Vec<String> = verdict.next.iter().map(|next| escape::str(next, TEXT)).collect();
        self.block("do", &next);
        let manual: Vec<String> =
            verdict.manual.iter().map(|manual| format!("$ {}", escape::str(manual, TEXT))).collect();
        self.block("by hand", &manual);
    }

    fn hop(&mut self, session: &Session, index: usize, report: &Report) {
        let Some(hop) = session.hops.get(index) else { return };
        let Hop { task, process, .. } = hop;
        self.known("pid", Some(task.tgid.to_string()));
        let command = escape::command(&process.argv, process.argv_truncated, TEXT);
        self.known("command", Some(command));
        self.known("program", process.exe.as_ref().map(|exe| escape::text(exe.as_bytes(), TEXT)));
        self.known("uid", process.uid.map(|uid| uid.to_string()));
        self.known("netns", process.netns.map(|netns| format!("net:[{netns}]")));
        if let Some(series) = report.measures.process(*task) {
            let (text, bad) = show::doing(hop, &series.last);
            self.row("state", &text, if bad { self.theme.bad() } else { Style::new() });
        }
        if let Some(verdict) = verdict_of(session, report).filter(|verdict| verdict.hop == Some(index)) {
            self.row("here", &format!("{} {}", verdict.code, verdict.name), self.theme.bad());
        }
    }

    fn link(&mut self, session: &Session, link: &Link, report: &Report) {
        let measures = &report.measures;
        let name = |index: usize| session.hops.get(index).map_or("?", |hop| hop.role.token());
        if let Some(ends) = link.tcp {
            for (side, end) in [(name(link.from), ends.near), (name(link.to), ends.far)] {
                let Some(socket) = end else {
                    self.row(side, "not on this host, or not seen", self.theme.dim());
                    continue;
                };
                self.known(side, socket.inode.map(|inode| format!("socket:[{inode}]")));
                match measures.tcp(socket).map(|series| series.last) {
                    Some(end) => {
                        self.row("", &show::numbers(&end), Style::new());
                        let more = end.info.map(|info| {
                            let (sent, received) = (bytes(info.bytes_acked), bytes(info.bytes_received));
                            format!("{sent} sent, {received} received, {} retransmitted", info.total_retransmits)
                        });
                        self.known("", more);
                        self.row("", &show::troubles(&end).join(", "), self.theme.bad());
                    }
                    None => self.row("", "not measured", self.theme.dim()),
                }
            }
        }
        if let Some((_, near, far)) = link.unix.as_ref() {
            for (side, end) in [(name(link.from), near), (name(link.to), far)] {
                self.known(side, end.inode.map(|inode| format!("socket:[{inode}]{}", unix_queues(*end, report))));
            }
        }
        if let Some((inbound, outbound)) = link.relay {
            for (side, end) in [("in by", inbound), ("out by", outbound)] {
                self.known(side, end.inode.map(|inode| format!("socket:[{inode}]")));
            }
        }
    }
}

fn unix_queues(end: SocketId, report: &Report) -> String {
    let measured = report.measures.unix(end).map(|series| series.last);
    measured.map_or_else(String::new, |end| format!("  recv-q {}  send-q {}", end.recv_q, end.send_q))
}

/// Breaks text to the width, between words if possible. Long ids and paths break anywhere.
fn break_lines(text: &str, width: usize) -> Vec<String> {
    let lines = phrases::folded(text, width);
    lines.iter().flat_map(|line| chunks(line, width)).collect()
}

/// Breaks a line into pieces of at most `width` columns, or of one character if that is wider.
fn chunks(line: &str, width: usize) -> Vec<String> {
    let (mut pieces, mut used) = (vec![String::new()], 0);
    for character in line.chars() {
        let more = escape::columns(character.encode_utf8(&mut [0; 4]));
        match pieces.last_mut() {
            Some(piece) if used + more <= width || piece.is_empty() => {
                piece.push(character);
                used += more;
            }
            _ => {
                pieces.push(character.into());
                used = more;
            }
        }
    }
    pieces
}

/// Verdict of a session.
pub(super) fn verdict_of<'a>(session: &Session, report: &'a Report) -> Option<&'a Verdict> {
    report.diagnosis.verdicts.iter().find(|verdict| verdict.session.as_ref() == Some(&session.id))
}

#[cfg(test)]
mod tests {
    use super::break_lines;

    #[test]
    fn long_words_break_at_columns() {
        assert_eq!(break_lines("abcdef gh", 4), ["abcd", "ef", "gh"]);
        assert_eq!(break_lines("日本語 x", 4), ["日本", "語", "x"]);
        assert_eq!(break_lines("日本", 1), ["日", "本"]);
    }
}
