// The path in words: for each hop and leg its reason, evidence, numbers, and commands that show the same by hand.

function sentence(number) {
  return pageData.sentences[number];
}

/** Formats a number of bytes; null if unknown. */
function bytes(value) {
  return value === null || value === undefined ? null : `${value.toLocaleString("en")} B`;
}

/** Elements of an explanation. */
function explanation(say) {
  if (!say) return [];
  const said = [say.what, say.why].map(sentence).filter(Boolean);
  const parts = said.map((text, index) => el("p", { class: index ? "why" : "what" }, ...prose(text)));
  const known = say.known.map(sentence);
  if (known.length) parts.push(el("p", { class: "known" }, el("b", { text: "How it is known: " }), ...prose(known.join(" "))));
  say.unknown.map(sentence).forEach((text) => parts.push(el("p", { class: "unknown" }, ...prose(`? ${text}`))));
  if (say.manual.length) {
    const lines = say.manual.map(([command, shows]) => el("li", {}, el("code", { text: command }), el("span", {}, ...prose(sentence(shows)))));
    parts.push(el("div", { class: "manual" }, el("p", { text: "The same by hand" }), el("ul", {}, ...lines)));
  }
  return parts;
}

class Steps {
  constructor(holder) {
    this.holder = holder;
    this.parts = [];
  }

  show(session) {
    this.session = session;
    this.parts = [];
    const items = [];
    session.beyond.filter((end) => end.side === "client").forEach((end) => items.push(this.beyond(end)));
    session.hops.forEach((hop, index) => {
      items.push(this.hop(hop, index));
      const leaving = session.links.map((link, number) => ({ link, number })).filter(({ link }) => link.from === index);
      leaving.sort((one, other) => Number(one.link.to !== index) - Number(other.link.to !== index));
      leaving.forEach(({ link, number }) => items.push(this.link(link, number)));
    });
    session.beyond.filter((end) => end.side !== "client").forEach((end) => items.push(this.beyond(end)));
    session.gaps.forEach((gap, index) => items.push(this.gap(gap, index)));
    this.holder.replaceChildren(...items);
  }

  track(item, part, update) {
    const when = el("p", { class: "when" });
    item.append(when);
    this.parts.push({ item, part, when, update });
    return item;
  }

  hop(hop, index) {
    const item = el("li", { class: "step hop", id: `hop-${index}`, tabindex: -1 },
      el("span", { class: "badge", text: String(index + 1), "aria-hidden": "true" }),
      el("h4", { text: hop.say?.title ?? `${hop.role}: ${hop.what}` }), ...explanation(hop.say));
    return this.track(item, hop);
  }

  beyond(end) {
    return el("li", { class: "step outside" }, el("h4", { text: end.say?.title ?? `${end.side} at ${end.address}` }), ...explanation(end.say));
  }

  link(link, number) {
    const inside = link.from === link.to;
    const sure = link.proofs[link.proofs.length - 1][1];
    const numbers = el("div", { class: "numbers" });
    const where = inside ? "inside" : `to ${link.to + 1}`;
    const item = el("li", { class: `step leg ${sure}`, id: `link-${number}`, tabindex: -1 },
      el("span", { class: "badge", text: inside ? "⇄" : "↓", "aria-hidden": "true" }),
      el("h4", { text: link.say?.title ?? `${link.kind} ${link.what}` },
        el("span", { class: "sure", text: `${where} · ${sure}` })), ...explanation(link.say), numbers);
    return this.track(item, link, (at) => numbers.replaceChildren(...this.numbers(link, at)));
  }

  gap(gap, index) {
    const item = el("li", { class: "step gap", id: `gap-${index}`, tabindex: -1 },
      el("span", { class: "badge", text: "?", "aria-hidden": "true" }),
      el("h4", { text: `Not known: ${gap.text}` }), ...explanation(gap.say));
    return this.track(item, gap);
  }

  /** The last measurement of a connection up to a moment. */
  numbers(link, at) {
    if (!link.inodes) return [];
    const [near, far] = [sampleAt(link.near, at), sampleAt(link.far, at)];
    const closed = link.bytes && !this.session.open && at >= this.session.until;
    const rows = [["to be read", 1, bytes], ["to be acknowledged", 2, bytes], ["sent in all", 3, bytes], ["received in all", 4, bytes], ["round trip", 5, (value) => (value === null ? null : duration(value))]];
    const cell = (end, [, index, format]) => {
      const value = end ? format(end[index]) : null;
      return el("td", value === null ? { class: "none", text: "not measured" } : { text: value });
    };
    const measured = rows.filter((row) => [near, far].some((end) => end && end[row[1]] !== null));
    const parts = [];
    if (measured.length) {
      const head = el("tr", {}, el("td"), ...["nearer to the client", "nearer to the process"].map((text) => el("th", { scope: "col", text })));
      const body = measured.map((row) => el("tr", {}, el("th", { scope: "row", text: row[0] }), cell(near, row), cell(far, row)));
      parts.push(el("table", {}, el("caption", { text: `Measured at +${duration((near ?? far)[0] - this.zero)}` }), head, ...body));
    } else {
      parts.push(el("p", {}, "Queues: ", el("span", { class: "none", text: "not measured" })));
    }
    const [sent, received] = closed ? link.bytes : [null, null];
    if (link.bytes && (sent !== null || received !== null)) {
      const known = (value) => bytes(value) ?? "not known";
      parts.push(el("p", { text: `In all: ${known(sent)} towards the process, ${known(received)} back.` }));
    } else if (link.bytes && !measured.length) {
      parts.push(el("p", {}, "Bytes: ", el("span", { class: "none", text: this.session.open || at < this.session.until ? "not measured by then" : "not measured" })));
    }
    return parts;
  }

  /** Shows the state at a moment. Times are printed relative to `zero`. */
  at(at, clock, zero) {
    this.zero = zero;
    const offset = (time) => `+${duration(time - zero)}`;
    for (const { item, part, when, update } of this.parts) {
      const state = stateAt(part, clock, at);
      item.dataset.stands = state;
      const known = `known at ${offset(part.since)}`;
      const start = part.at < part.since ? `came about at ${offset(part.at)}, ${known}` : known;
      when.textContent = { later: `not there yet: ${start}`, here: start, gone: `taken back at ${offset(part.until ?? zero)}` }[state];
      if (update) update(at);
    }
  }

  pick(id) {
    const item = byId(id);
    if (!item) return;
    item.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    item.focus({ preventScroll: true });
  }
}
