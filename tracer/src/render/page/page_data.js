// The data of the page, and functions that derive the state at a moment.

const pageData = JSON.parse(byId("data").textContent);

/** Formats a moment as UTC date and time with milliseconds. */
function moment(at) {
  return new Date(pageData.origin_ms + at / 1e3).toISOString().replace("T", " ").replace("Z", " UTC");
}

/** Start of a part by the selected clock: when it came about, or when it became known. */
function startOf(part, clock) {
  return clock === "known" ? part.since : part.at;
}

/** State of a part at a moment: not yet there, there, or retracted. */
function stateAt(part, clock, at) {
  if (startOf(part, clock) > at) return "later";
  if (part.until !== null && part.until <= at) return "gone";
  return "here";
}

/** The proof of a link at a moment: time, confidence, evidence. */
function proofAt(link, at) {
  const known = link.proofs.filter((one) => one[0] <= at);
  return known.length ? known[known.length - 1] : link.proofs[0];
}

/** The last sample of one end up to a moment. */
function sampleAt(samples, at) {
  let last = null;
  for (const sample of samples) {
    if (sample[0] > at) break;
    last = sample;
  }
  return last;
}

/** Events of a session in order of time. */
function events(session, clock) {
  const all = [];
  const add = (at, text, tone = "plain") => all.push({ at, text, tone });
  session.hops.forEach((hop) => {
    add(startOf(hop, clock), `${hop.role} is on the path: ${hop.what}`);
    if (hop.until !== null) add(hop.until, `taken back: ${hop.role}`, "doubt");
  });
  session.links.forEach((link) => {
    const between = link.from === link.to ? `inside ${session.hops[link.from].role}` : `${session.hops[link.from].role} → ${session.hops[link.to].role}`;
    const what = link.kind === "relay" ? "one connection leads to the other" : [link.kind, link.what].filter(Boolean).join(" ");
    add(startOf(link, clock), `${between}: ${what}`, link.proofs[0][1] === "exact" ? "good" : "doubt");
    link.proofs.slice(1).forEach((later) => add(later[0], `${between}: now ${later[1]}: ${later[2]}`));
    if (link.until !== null) add(link.until, `taken back: ${between}, ${what}`, "doubt");
  });
  session.gaps.forEach((gap) => {
    add(gap.since, `not known: ${gap.text}`, "doubt");
    if (gap.until !== null) add(gap.until, `known now: ${gap.text}`);
  });
  if (!session.open) add(session.until, session.outcome, session.tone);
  return all.sort((one, other) => one.at - other.at);
}

/** CSS class for the confidence of a link. */
function confidenceClass(link, at) {
  const sure = proofAt(link, at)[1];
  return link.shared ? `${sure} shared` : sure;
}
