// Draws the path. Positions are part of the data, equal to those of the SVG drawing.

const LETTER = 5.9;
const NARROW = 900;

function word(x, y, kind, text, attributes = {}) {
  return drawn("text", { x, y, class: kind, text, ...attributes });
}

function box(area, radius, kind) {
  return drawn("rect", { x: area.x, y: area.y, width: area.w, height: area.h, rx: radius, class: kind });
}

class Picture {
  constructor(holder, pick, resized) {
    this.holder = holder;
    this.pick = pick;
    this.resized = resized;
    this.session = null;
    new ResizeObserver(() => this.fit()).observe(holder);
  }

  show(session) {
    this.session = session;
    this.form = null;
    this.fit();
  }

  /** Chooses the form: places side by side if the page is wide enough, else stacked. */
  fit() {
    const width = this.holder.clientWidth;
    if (!this.session || width === 0) return;
    const wide = pageData.shapes[this.session.wide];
    const form = width >= Math.min(wide.w * 0.8, NARROW) ? "wide" : "tall";
    if (form === this.form) return;
    this.form = form;
    this.draw(pageData.shapes[this.session[form]]);
    this.at(this.moment ?? Infinity, this.clock ?? "happened");
  }

  draw(shape) {
    const { session } = this;
    this.parts = [];
    const all = drawn("svg", {
      class: "execpath", viewBox: `0 0 ${shape.w} ${shape.h}`, width: shape.w, height: shape.h, role: "img",
      "aria-label": `The path: ${session.hops.map((hop) => `${hop.role}, ${hop.what}`).join("; then ")}`,
    });
    shape.places.forEach((place, index) => all.append(this.place(place, index)));
    shape.beyond.forEach((area, index) => all.append(this.beyond(area, session.beyond[index])));
    shape.lines.forEach((line) => all.append(this.line(line)));
    shape.hops.forEach((area, index) => all.append(this.hop(area, index)));
    this.holder.replaceChildren(all);
    this.resized(shape);
  }

  track(group, part, step) {
    this.parts.push({ group, part });
    if (step) {
      group.classList.add("pick");
      group.addEventListener("click", () => this.pick(step));
    }
    return group;
  }

  place(place, index) {
    const [title, netns] = this.session.places[index];
    const { x, y, w } = place.area;
    const room = Math.floor((w - 14 - (place.title - x)) / 7.4);
    return drawn("g", {}, box(place.area, 12, "place"),
      word(place.title, y + 22, "place-title", cut(title, room)), word(place.title, y + 38, "small", netns));
  }

  beyond(area, end) {
    return drawn("g", {}, box(area, 12, "beyond"),
      word(area.x + 14, area.y + 28, "place-title", `${end.side}, not on this host`),
      word(area.x + 14, area.y + 48, "small", end.address));
  }

  hop(area, index) {
    const hop = this.session.hops[index];
    const { x, y, w } = area;
    const group = drawn("g", {}, box(area, 8, "hop"),
      drawn("circle", { class: "number", cx: x + 22, cy: y + 28, r: 12 }),
      word(x + 22, y + 32, "number-text", String(index + 1), { "text-anchor": "middle" }),
      word(x + 42, y + 25, "role", hop.role),
      word(x + 42, y + 43, "small", cut(hop.what, Math.floor((w - 50) / LETTER))));
    let row = y + 64;
    this.session.links.forEach((link, number) => {
      if (link.from !== index || link.to !== index) return;
      const text = word(x + 14, row, "small", "");
      text.dataset.room = Math.floor((w - 28) / LETTER);
      group.append(this.track(text, link, `link-${number}`));
      row += 20;
    });
    return this.track(group, hop, `hop-${index}`);
  }

  line(line) {
    const link = line.link === null ? null : this.session.links[line.link];
    const group = drawn("g", { class: line.hops ? "hole" : "away" }, drawn("path", { class: "reach", d: line.path }), drawn("path", { class: "line", d: line.path }));
    for (const [x, y] of line.ends) group.append(drawn("circle", { class: "end", cx: x, cy: y, r: 4 }));
    if (line.room > 0) {
      const anchor = { "text-anchor": line.centred ? "middle" : "start" };
      const [x, y] = line.words;
      const down = link && link.to > link.from + 1 ? `down to ${link.to + 1}  ` : "";
      const what = link ? down + (line.centred ? link.short : link.what) : "no link is proved";
      group.append(word(x, y, "kind", link ? "" : "?", { ...anchor, "data-room": line.room }), word(x, y + 14, "small", cut(what, line.room), anchor));
    }
    if (link) return this.track(group, link, `link-${line.link}`);
    return line.hops ? this.track(group, this.missingLink(line.hops), null) : group;
  }

  /** A missing link between two neighbours, visible while both are on the path. */
  missingLink([from, to]) {
    const hops = [this.session.hops[from], this.session.hops[to]];
    const until = hops.map((hop) => hop.until).filter((end) => end !== null);
    return {
      at: Math.max(...hops.map((hop) => hop.at)), since: Math.max(...hops.map((hop) => hop.since)),
      until: until.length ? Math.min(...until) : null,
    };
  }

  /** Shows the path at a moment. */
  at(at, clock) {
    [this.moment, this.clock] = [at, clock];
    for (const { group, part } of this.parts ?? []) {
      const state = stateAt(part, clock, at);
      group.dataset.stands = state;
      if (!part.proofs) continue;
      const [, sure, evidence] = proofAt(part, at);
      if (group.tagName === "text") {
        group.setAttribute("class", `small ${sure} pick`);
        group.textContent = cut(`⇄ ${evidence} · ${sure}`, Number(group.dataset.room));
      } else {
        group.setAttribute("class", `${confidenceClass(part, at)} pick`);
        const kind = group.querySelector(".kind");
        if (kind) kind.textContent = cut([part.kind, part.shared ? "shared" : "", sure].filter(Boolean).join(" · "), Number(kind.dataset.room));
      }
    }
  }
}
