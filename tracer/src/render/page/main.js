// Creates the parts of the page and connects them.

/** A fault and its span of time. */
function faultSpan(fault) {
  const since = fault.since === null ? "" : ` since ${moment(fault.since)}`;
  return `${fault.what}${since}${fault.until === null ? " to the end" : ` until ${moment(fault.until)}`}`;
}

function head(session) {
  const facts = [
    ["Session", session.id], ["Began", `${moment(session.opened)}${session.older ? " (older than the trace)" : ""}`], ["Who", session.who], ["User", session.user],
    ["Diagnosis", session.health],
    ...session.faults.map((fault) => ["Fault", faultSpan(fault)]),
  ].filter(([, value]) => value);
  const whole = session.complete
    ? `${session.beyond.length ? "the part of the path on this host" : "the whole path"}, ${session.confidence === "exact" ? "every link exact" : `its weakest link is ${session.confidence}`}`
    : "the path is not complete";
  byId("head").replaceChildren(
    el("h2", {}, el("span", { class: "kind", text: session.kind }), " ", el("span", { text: session.into ?? "a container that is not known" })),
    session.command ? el("p", { class: "command" }, el("code", { text: `$ ${session.command}` })) : "",
    el("p", { class: "outcome" }, el("span", { class: `pill ${session.open ? "open" : session.tone}`, text: session.outcome }), " ",
      el("span", { class: `pill ${session.complete && session.confidence === "exact" ? "good" : "doubt"}`, text: whole })),
    el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })])),
    ...[...pageData.lost.map((text) => `Records were lost: ${text}`), ...pageData.notes].map((text) => el("p", { class: "notice", text })));
}

function choose(session) {
  document.title = `${session.kind} ${session.into ?? session.id} · execpath`;
  history.replaceState(null, "", `#${encodeURIComponent(session.id)}`);
  head(session);
  details.show(session);
  start.show(session);
  picture.show(session);
  steps.show(session);
  timeline.show(session);
}

const start = new Start(byId("start"), byId("start-sum"), byId("parts"));
const steps = new Steps(byId("steps"));
const details = new Details(byId("details"), (id) => steps.pick(id));
const picture = new Picture(byId("picture"), (id) => (picture.form === "wide" ? details.pick(id) : steps.pick(id)), (shape) => details.move(shape));
const timeline = new Timeline(byId("timeline"), (at, clock, first, last) => {
  picture.at(at, clock);
  details.at(at, clock, at >= last);
  steps.at(at, clock, first);
});

byId("host").textContent = `${counted(pageData.sessions.length, "session")} on ${pageData.host || "a host without a name"}${pageData.kernel ? `, Linux ${pageData.kernel}` : ""}`;
byId("scheme").addEventListener("change", (event) => {
  document.documentElement.dataset.scheme = event.target.value;
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("filter").focus();
  }
});

if (pageData.sessions.length) {
  const list = new SessionList(pageData.sessions, choose);
  performance.mark("list");
  list.pick(decodeURIComponent(location.hash.slice(1)));
  addEventListener("hashchange", () => list.pick(decodeURIComponent(location.hash.slice(1))));
} else {
  byId("count").textContent = "no session";
  byId("main").replaceChildren(el("p", { class: "notice", text: "There is no session in this recording." }));
}
